"""The job's processes: how they meet, and how they agree."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar

import deepspeed
import torch
import torch.distributed as dist

from pipeline.errors import PeerLostError, RunError, TarmacError
from pipeline.runtime.ranks import Ranks

Value = TypeVar("Value")

_PEER_LOST = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "remote process exited")


class ProcessGroup:
    """This rank's device, the group that gradients use, and a second one over gloo for decisions.

    Decisions (files written, signals seen, faults found) go over gloo so that they never wait for the GPU.
    """

    def __init__(self, ranks: Ranks, timeout_seconds: int) -> None:
        """Join the other ranks of the job. Raises RunError where rank 0 is not found, or its port is taken."""
        self.ranks = ranks
        self._timeout = timeout = timedelta(seconds=timeout_seconds)
        self.device = _device(ranks)
        complete_environment(ranks)
        _leave_out_shared_memory_op()
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        try:
            deepspeed.init_distributed(dist_backend=backend, timeout=timeout, verbose=False, auto_mpi_discovery=False)
        except dist.DistNetworkError as error:
            place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            reason = str(error).splitlines()[0]
            raise RunError(
                f"rank {ranks.rank} cannot meet the others at {place} ({reason}); is the port taken?"
            ) from error
        self.control = dist.new_group(backend="gloo", timeout=timeout)

    def __enter__(self) -> "ProcessGroup":
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave in order, also after an error on all ranks; after any other one a rank may be gone."""
        if error is None or getattr(error, "on_all_ranks", False):
            self.close()

    def neighbours(self, size: int) -> Any:
        """torch's process group of this rank where each `size` ranks in a row are one; all ranks call it."""
        firsts = range(0, self.ranks.world_size, size)
        groups = [dist.new_group(range(first, first + size), timeout=self._timeout) for first in firsts]
        return groups[self.ranks.rank // size]

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, on every rank."""
        values: list[Any] = [None] * self.ranks.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def gather_to_main(self, value: Value) -> list[Value] | None:
        """Every rank's value, on rank 0; None on the others."""
        values: list[Any] | None = [None] * self.ranks.world_size if self.ranks.is_main else None
        dist.gather_object(value, values, dst=0, group=self.control)
        return values

    def require_same(self, what: str, value: str) -> None:
        """Raise RunError on all ranks unless all give the same value."""
        values = self.gather(value)
        other = next((rank for rank, one in enumerate(values) if one != values[0]), None)
        if other is not None:
            raise known_everywhere(
                RunError(f"rank {other} reads another {what} than rank 0; give the same files to all nodes")
            )

    def main_decides(self, decide: Callable[[], Value]) -> Value:
        """What `decide` returns on rank 0, on every rank. An error there is raised everywhere."""
        outcome: list[Any] = [None]
        if self.ranks.is_main:
            try:
                outcome[0] = decide()
            except TarmacError as error:
                outcome[0] = error
            except OSError as error:
                outcome[0] = RunError(f"{error.filename or 'a file'}: {error.strerror}; mend the file system's state")
        dist.broadcast_object_list(outcome, src=0, group=self.control)
        if isinstance(outcome[0], TarmacError):
            raise known_everywhere(outcome[0])
        return outcome[0]

    def agree(self, act: Callable[[], Value]) -> Value:
        """What `act` returns here, where it makes no collective. An error on any rank is raised on all of them."""
        mine: Value | TarmacError
        try:
            mine = act()
        except TarmacError as error:
            mine = error
        errors = self.gather(mine if isinstance(mine, TarmacError) else None)
        if any(errors):
            raise known_everywhere(next(error for error in errors if error))
        assert not isinstance(mine, TarmacError)
        return mine

    def max(self, value: int) -> int:
        """The largest of all ranks' values, on every rank."""
        tensor = torch.tensor([value])
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX, group=self.control)
        return int(tensor.item())

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Element-wise sum over ranks of a small tensor, on the CPU in fp64."""
        total = values.detach().to("cpu", torch.float64, copy=True)
        dist.all_reduce(total, group=self.control)
        return total

    def abort(self) -> None:
        """Give up: frees other processes that wait for this one. The group is of no use afterwards."""
        if self.device.type == "cuda":
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()

    def barrier(self) -> None:
        """Wait for all ranks."""
        dist.barrier(group=self.control)

    def close(self) -> None:
        """Leave the job in order. After most errors the process just ends: a collective with a dead peer hangs."""
        self.barrier()
        dist.destroy_process_group()


@contextmanager
def told_in_one_sentence() -> Iterator[None]:
    """Turn the error a collective ends with when another rank is gone into PeerLostError."""
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _PEER_LOST):
            raise
        raise PeerLostError(
            "another rank ended, and this one with it; what it said, if it could, is above; the same command resumes"
        ) from error


def known_everywhere(error: TarmacError) -> TarmacError:
    """The error, known to be raised on every rank."""
    error.on_all_ranks = True
    return error


def _device(ranks: Ranks) -> torch.device:
    if os.environ.get("DS_ACCELERATOR") == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if ranks.local_rank >= torch.cuda.device_count():
        raise RunError(
            f"local rank {ranks.local_rank} has no GPU, the node has {torch.cuda.device_count()};"
            " start as many processes per node as it has GPUs"
        )
    torch.cuda.set_device(ranks.local_rank)
    return torch.device("cuda", ranks.local_rank)


def complete_environment(ranks: Ranks) -> None:
    """What torch.distributed reads. A process that no launcher started is a job of one."""
    os.environ.update(RANK=str(ranks.rank), LOCAL_RANK=str(ranks.local_rank), WORLD_SIZE=str(ranks.world_size))
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            os.environ["MASTER_PORT"] = str(probe.getsockname()[1])


def _leave_out_shared_memory_op() -> None:
    """DeepSpeed would compile an all-reduce for inference on CPUs at start (30 s), which training never calls."""
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
