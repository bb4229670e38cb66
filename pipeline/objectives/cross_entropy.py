"""Cross-entropy of a linear output layer whose logits are never in memory as a whole."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import linear

from pipeline.data.batch import IGNORED

Softmax = Callable[[torch.Tensor, torch.Tensor, float, bool], tuple[torch.Tensor, torch.Tensor | None]]

_MAX_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 27}
"""How many logits are in memory at once: on a CPU as many as its caches can hold, on a GPU as keep it busy."""


def chunked_loss(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    z_loss: float = 0.0,
    widen: bool = False,
    softmax: "Softmax | None" = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Summed cross-entropy of the logits `hidden @ weight.T + bias`, a scalar in fp32, 0 when no label is valid; and
    beside it that of each label, in their shape, detached.

    Rows are taken in chunks, and the gradients of a chunk are computed at once with its loss: the products are those of
    the plain way, three in number, and nothing of the size of the logits waits for the backward pass. Sums over chunks
    are in fp32.

    Args:
        hidden: Shape (..., H).
        weight: Shape (V, H), as of `nn.Linear`.
        bias: Shape (V,), or None.
        labels: int64 of the shape of `hidden` without its last dimension; -100 is not scored.
        z_loss: Weight of log(Z)^2, which is added (Chowdhery et al. 2022, section 5).
        widen: Take the products in fp32.
        softmax: `softmax_loss`, or what it was compiled to.
    """
    settings = (z_loss, widen, torch.is_grad_enabled(), softmax or softmax_loss)
    loss, losses = _ChunkedLoss.apply(hidden.flatten(0, -2), weight, bias, labels.flatten(), *settings)
    return loss, losses.view(labels.shape)


def softmax_loss(
    logits: torch.Tensor, labels: torch.Tensor, z_loss: float, learn: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Losses of some rows of logits, and the gradient of their sum by them if asked for, both in fp32 at least."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    valid = labels != IGNORED
    targets = labels.where(valid, 0)[:, None]
    log_z = logits.logsumexp(1, keepdim=True)
    losses = log_z - logits.gather(1, targets) + z_loss * log_z.square()
    losses = losses.squeeze(1).where(valid, 0)
    if not learn:
        return losses, None
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets
    gradient = (logits - log_z).exp() * (1 + 2 * z_loss * log_z) - is_target.to(logits.dtype)
    return losses, gradient.where(valid[:, None], 0)


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients with the loss; its backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        z_loss: float,
        widen: bool,
        learn: bool,
        softmax: Softmax,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        needed = [learn and is_needed for is_needed in ctx.needs_input_grad[:3]]
        exact = torch.promote_types(hidden.dtype, torch.float32)
        taken = exact if widen else hidden.dtype
        matrix, offset = weight.to(taken), None if bias is None else bias.to(taken)
        gradients = [
            torch.zeros_like(one, dtype=exact) if one is not None and is_needed else None
            for one, is_needed in zip((hidden, weight, bias), needed, strict=True)
        ]
        by_hidden, by_weight, by_bias = gradients
        losses = torch.empty(len(hidden), dtype=exact, device=hidden.device)
        for rows in _chunks(len(hidden), len(weight), hidden.device):
            part = hidden[rows].to(taken)
            losses[rows], above = softmax(linear(part, matrix, offset), labels[rows], z_loss, any(needed))
            if above is None:
                continue
            if by_bias is not None:
                by_bias += above.sum(0)
            above = above.to(taken)
            if by_hidden is not None:
                by_hidden[rows] = (above @ matrix).to(exact)
            if by_weight is not None:
                _add_product(by_weight, above.t(), part)
        ctx.save_for_backward(*gradients)
        ctx.dtypes = [None if one is None else one.dtype for one in (hidden, weight, bias)]
        ctx.mark_non_differentiable(losses)
        return losses.sum(), losses

    @staticmethod
    def backward(ctx: Any, scale: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        gradients = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(None if one is None else (one * scale).to(dtype) for one, dtype in gradients), *[None] * 5)


def _add_product(total: torch.Tensor, one: torch.Tensor, other: torch.Tensor) -> None:
    if one.dtype == total.dtype:
        total.addmm_(one, other)
    else:
        total += one @ other


def _chunks(num_rows: int, num_classes: int, device: torch.device) -> list[slice]:
    """Slices of rows, equal but for one row, each with no more logits than are to be in memory at once."""
    largest = max(1, _MAX_LOGITS.get(device.type, _MAX_LOGITS["cuda"]) // num_classes)
    number = max(1, -(-num_rows // largest))
    bounds = [num_rows * place // number for place in range(number + 1)]
    return [slice(first, last) for first, last in pairwise(bounds)]
