"""Attention document by document, without a mask: what a row's other documents hold costs nothing and weighs nothing.

A dense mask over a row of L tokens costs L * L products, whatever the documents' lengths. Here each piece is attended
to alone: on a GPU by one kernel for variable lengths, on a CPU by its fused kernel piece after piece.
"""

from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention

from pipeline.errors import ConfigError

_GROUPED = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
"""Before torch 2.12 fewer key and value heads needed no word."""
_VARLEN_TYPES = (torch.bfloat16, torch.float16)
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_fused_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend_by_document(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a transformers model; shapes (B, heads, L, head size), returned as (B, L, heads, head size).

    Args:
        module: Its attribute `is_causal` says whether a token sees those behind it, unless the argument does.
        query, key, value: Keys and values may have fewer heads, as in grouped-query attention.
        attention_mask: None.
        scaling: Of the products; by default 1 / sqrt(head size).
        dropout: 0.
        sliding_window: None, or no shorter than the rows.
        is_causal: Instead of the module's attribute.
        cu_seq_lens_q: Bounds of the pieces in the rows laid end to end (`piece_bounds`). None: each row is one piece.
        max_length_q: No piece is longer.
        softcap, s_aux: None: caps of products, and sinks, which some forms have.

    Raises:
        ConfigError: The model wants what this attention cannot do.
    """
    is_cut = sliding_window is not None and sliding_window < query.shape[2]
    if dropout or attention_mask is not None or is_cut or softcap is not None or s_aux is not None:
        raise ConfigError(
            "engine.attention (documents) knows neither dropout nor windows, masks, caps and sinks, and this model has"
            " one of them; take sdpa, or eager for caps and sinks"
        )
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    if cu_seq_lens_q is None:
        causal = causal and query.shape[2] > 1  # the one token behind those of a cache sees them all
        grouped = query.shape[1] != key.shape[1]
        output = scaled_dot_product_attention(query, key, value, is_causal=causal, scale=scaling, enable_gqa=grouped)
        return output.transpose(1, 2).contiguous(), None
    if query.device.type == "cpu":
        return attend_pieces(query, key, value, cu_seq_lens_q, causal, scaling)[0], None
    assert max_length_q is not None
    return _attend_on_gpu(query, key, value, cu_seq_lens_q, max_length_q, causal, scaling), None


def _attend_on_gpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    longest: int,
    causal: bool,
    scaling: float | None,
) -> torch.Tensor:
    if query.dtype not in _VARLEN_TYPES:
        raise ConfigError(f"engine.attention (documents) has no kernel for {query.dtype} on a GPU; take sdpa")
    flat = [tensor.transpose(1, 2).flatten(0, 1) for tensor in (query, key, value)]
    grouped: dict[str, Any] = _GROUPED if query.shape[1] != key.shape[1] else {}
    window = (-1, 0) if causal else (-1, -1)
    output = varlen_attn(*flat, bounds, bounds, longest, longest, scale=scaling, window_size=window, **grouped)
    return output.unflatten(0, (query.shape[0], query.shape[2]))


@torch.library.custom_op("tarmac::attend_pieces", mutates_args=())
def attend_pieces(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    causal: bool,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention within each piece, on a CPU: (B, L, heads, head size), and the logarithms its backward pass needs.

    To torch.compile it is one operation, so that another number of pieces neither breaks a graph nor compiles anew.
    """
    batch, heads, length, size = query.shape
    output = query.new_empty(batch, length, heads, size)
    wide = torch.promote_types(query.dtype, torch.float32)
    logarithms = query.new_empty(batch, length, heads, dtype=wide)
    for row, places in _pieces(bounds, length):
        parts = (tensor[row, :, places] for tensor in (query, key, value))
        found, logarithm = _fused(*parts, 0.0, causal, scale=scaling)
        output[row, places] = found.transpose(1, 2)
        logarithms[row, places] = logarithm.transpose(1, 2)
    return output, logarithms


@attend_pieces.register_fake
def _(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds: torch.Tensor,
    causal: bool,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, length, size = query.shape
    wide = torch.promote_types(query.dtype, torch.float32)
    return query.new_empty(batch, length, heads, size), query.new_empty(batch, length, heads, dtype=wide)


@torch.library.custom_op("tarmac::attend_pieces_backward", mutates_args=())
def _attend_pieces_backward(
    gradient: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    logarithms: torch.Tensor,
    bounds: torch.Tensor,
    causal: bool,
    scaling: float | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    gradients = tuple(torch.empty_like(tensor) for tensor in (query, key, value))
    for row, places in _pieces(bounds, query.shape[2]):
        parts = (tensor[row, :, places] for tensor in (query, key, value))
        above, found, logarithm = (tensor[row, places].transpose(1, 2) for tensor in (gradient, output, logarithms))
        pieces = _fused_backward(above, *parts, found, logarithm, 0.0, causal, scale=scaling)
        for whole, piece in zip(gradients, pieces, strict=True):
            whole[row, :, places] = piece
    return gradients


@_attend_pieces_backward.register_fake
def _(
    gradient: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _pieces(bounds: torch.Tensor, length: int) -> list[tuple[slice, slice]]:
    """Of each piece, its row and its places in it, as slices, so that no dimension is lost."""
    pairs = pairwise(bounds.tolist())
    firsts = [(first // length, first % length, last - first) for first, last in pairs]
    return [(slice(row, row + 1), slice(place, place + number)) for row, place, number in firsts]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    query, key, value, bounds, ctx.causal, ctx.scaling = inputs
    ctx.save_for_backward(query, key, value, *output, bounds)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, gradient: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    gradients = _attend_pieces_backward(gradient, *ctx.saved_tensors, ctx.causal, ctx.scaling)
    return (*gradients, None, None, None)


attend_pieces.register_autograd(_differentiate, setup_context=_keep)
