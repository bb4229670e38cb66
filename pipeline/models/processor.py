"""bf16 and fp16 on processors without instructions for them.

PyTorch has no fast matrix product of these there (bf16: 1 GFLOP/s against 45 in fp32 on one AVX2 core, seen). So
products are taken in fp32 of the operands and rounded to their type, which is what the hardware would do: the same
mathematics at the speed of fp32.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

WIDE_ATTENTION = "sdpa_wide"


def lacks_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are slow on a device: on CPUs without AVX-512 bf16 or AMX."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def lacks_fp16(device: torch.device) -> bool:
    """Whether fp16 matrix products are slow on a device: on CPUs without AVX-512 FP16 or AMX FP16."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def lacks(precision: str, device: torch.device) -> bool:
    """Whether products of a precision (`bf16`, `fp16`, `fp32`) are slow on a device."""
    return (precision == "bf16" and lacks_bf16(device)) or (precision == "fp16" and lacks_fp16(device))


def widen_products(model: PreTrainedModel) -> None:
    """Take a bf16 or fp16 model's matrix products in fp32: its linear layers' and its attention's."""
    AttentionInterface.register(WIDE_ATTENTION, _wide_attention)
    AttentionMaskInterface.register(WIDE_ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model.set_attn_implementation(WIDE_ATTENTION)
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _WideLinear


class _WideLinear(nn.Linear):
    """A linear layer whose product is taken in fp32."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        return linear(input.float(), self.weight.float(), bias).to(input.dtype)


def _wide_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention in fp32; shapes (B, heads, L, head size), returned as (B, L, heads, head size)."""
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.float().repeat_interleave(groups, dim=1) for tensor in (key, value))
    causal = attention_mask is None and query.shape[2] > 1
    output = scaled_dot_product_attention(
        query.float(), key, value, attn_mask=attention_mask, is_causal=causal, scale=scaling
    )
    return output.transpose(1, 2).to(query.dtype).contiguous(), None
