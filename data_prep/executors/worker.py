"""One array task of SLURM: `python -m data_prep.executors.worker FOLDER SHA256` runs its share of a job's tasks."""

import hashlib
import io
import json
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from data_prep.tasks.runner import Item
from data_prep.tasks.store import find_done
from pipeline import errors
from pipeline.errors import CorpusError, TarmacError
from pipeline.runtime.files import write_json

TASKS_NAME = "tasks.pkl"
ERROR_SUFFIX = ".error.json"
Shares = tuple[Path, Callable[[Item], None], Sequence[Sequence[Item]]]
"""The work folder, the function to call, and the items of each array task."""


def pack(shares: Shares) -> bytes:
    """A job's tasks as bytes; before them, where modules are found here."""
    return pickle.dumps(sys.path) + pickle.dumps(shares)


def unpack(content: bytes) -> Shares:
    """What was packed; modules are now found where the packing process found them."""
    stream = io.BytesIO(content)
    sys.path[:] = pickle.load(stream)
    shares: Shares = pickle.load(stream)
    return shares


def read_tasks(folder: Path, sha256: str) -> Shares:
    """The tasks in a job's folder. Raises CorpusError, before any of it is unpickled, if they are not those meant."""
    content = (folder / TASKS_NAME).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise CorpusError(
            f"{folder / TASKS_NAME} has sha256 {found} but {sha256} was submitted; keep others from writing there,"
            " then give the same command"
        )
    return unpack(content)


def read_error(path: Path) -> TarmacError:
    """The error that an array task told, of its own class."""
    told = json.loads(path.read_text("utf-8"))
    kind: type[TarmacError] = getattr(errors, told["error"])
    return kind(told["sentence"])


def main(arguments: Sequence[str]) -> int:
    """Run the share of this array task, without what is finished; the exit status is that of the error, if any."""
    folder, sha256 = Path(arguments[0]), arguments[1]
    number = int(os.environ["SLURM_ARRAY_TASK_ID"])
    signal.signal(signal.SIGTERM, _leave)
    try:
        work, function, shares = read_tasks(folder, sha256)
        for item in shares[number]:
            if find_done(work, *item) is None:
                function(item)
    except TarmacError as error:
        print(error, file=sys.stderr)
        write_json(folder / f"{number}{ERROR_SUFFIX}", {"error": type(error).__name__, "sentence": str(error)})
        return error.exit_code
    return 0


def _leave(signum: int, frame: FrameType | None) -> None:
    """A cancelled or preempted task tidies up on its way out."""
    sys.exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
