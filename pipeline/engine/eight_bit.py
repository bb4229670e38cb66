"""AdamW whose moments take a byte each (Dettmers et al. 2021, arXiv:2110.02861), by bitsandbytes.

A moment is a value of a map of 256, times the largest of its block of 256 elements. Blocks cross parameters where these
lie end to end, so checkpoints hold moments in fp32, and any stage and number of ranks can take them up. The map here
begins at -1 (bitsandbytes' own at -0.993): then the largest of a block is among its values, and a moment that was
expanded comes back bit by bit.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch.optim import Optimizer

from pipeline.errors import MissingDependencyError

_BLOCK = 256
_NUMBERS = {"exp_avg": "1", "exp_avg_sq": "2"}
"""How bitsandbytes tells the moments apart."""


def adam_class() -> type[Optimizer]:
    """bitsandbytes' optimizer. Raises MissingDependencyError."""
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MissingDependencyError(
            "optimizer.state_precision 8bit needs bitsandbytes; install it with: pip install 'tarmac[adam8bit]'"
        ) from error
    found: type[Optimizer] = AdamW8bit
    return found


def adamw_8bit(params: Iterable[Any], **settings: Any) -> Optimizer:
    """The optimizer, of parameter groups. Raises MissingDependencyError."""
    optimizer: Any = adam_class()(params, **settings)
    optimizer.fill_qmap()
    optimizer.name2qmap["dynamic"][0] = -1.0
    return cast(Optimizer, optimizer)


def is_8bit(optimizer: Optimizer) -> bool:
    """Whether `adamw_8bit` made it."""
    return type(optimizer).__name__ == "AdamW8bit"


def prepare_8bit(optimizer: Any, parameter: torch.Tensor, made: int | None) -> None:
    """Make the state of a parameter, after so many updates; where it goes on from some, moments in fp32 to read into.

    These are on the CPU, as `expanded` ones are, and `compress` takes them up.
    """
    state = optimizer.state[parameter]
    if "state1" not in state:
        state["step"] = 0
        for number, name in zip(_NUMBERS.values(), ("dynamic", "udynamic"), strict=True):
            state |= _first_moment(parameter, number, optimizer.name2qmap[name], optimizer.args.min_8bit_size)
    if made is not None:
        state["step"] = made
        state |= {kind: torch.zeros(parameter.shape, dtype=torch.float32) for kind in _NUMBERS}


def _first_moment(parameter: torch.Tensor, number: str, code: torch.Tensor, least: int) -> dict[str, torch.Tensor]:
    """A moment before the first update, zero, as bitsandbytes makes it; stage 3 hides parameters from `init_state`."""
    if parameter.numel() < least:
        return {f"state{number}": torch.zeros_like(parameter, dtype=torch.float32, requires_grad=False)}
    device = parameter.device
    return {
        f"state{number}": torch.zeros_like(parameter, dtype=torch.uint8, requires_grad=False),
        f"qmap{number}": code.to(device),
        f"absmax{number}": torch.zeros(-(-parameter.numel() // _BLOCK), device=device),
    }


def expanded(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The moments of a parameter in fp32, on the CPU: those that wait to be taken up, or else a copy."""
    numbers = _NUMBERS.items() if "state1" in state else ()
    return {kind: state[kind] if kind in state else _expanded(state, number) for kind, number in numbers}


def _expanded(state: dict[str, Any], number: str) -> torch.Tensor:
    codes: torch.Tensor = state[f"state{number}"].cpu()
    if codes.dtype == torch.float32:  # too small to be worth it, by bitsandbytes' rule
        return codes
    values = state[f"qmap{number}"].cpu().index_select(0, codes.view(-1).int())
    return values.mul_(state[f"absmax{number}"].cpu().repeat_interleave(_BLOCK)[: values.numel()]).view(codes.shape)


def compress(state: dict[str, Any]) -> None:
    """Take up moments that were read in fp32, if there are any."""
    for kind, number in _NUMBERS.items():
        if kind in state:
            _compress(state, number, state.pop(kind))


def _compress(state: dict[str, Any], number: str, values: torch.Tensor) -> None:
    target: torch.Tensor = state[f"state{number}"]
    if target.dtype == torch.float32:
        target.copy_(values)
        return
    flat = values.view(-1)
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % _BLOCK)).view(-1, _BLOCK)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    code = state[f"qmap{number}"].cpu()
    nearest = torch.bucketize(blocks / largest.clamp(min=torch.finfo(torch.float32).tiny), (code[1:] + code[:-1]) / 2)
    target.copy_(nearest.view(-1)[: flat.numel()].view(target.shape))
    state[f"absmax{number}"].copy_(largest.view(-1))
