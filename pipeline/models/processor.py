"""bf16 and fp16 on processors without instructions for them.

PyTorch has no fast matrix product of these there: of bf16 1 GFLOP/s against 45 in fp32 on one AVX2 core, 24 against
106 with AVX-512 but without its bf16 part, seen. So products are taken in fp32 of the operands and rounded to their
type, which is what the hardware would do: the same mathematics at the speed of fp32.
"""

import platform
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.pytorch_utils import Conv1D

from pipeline.errors import ConfigError
from pipeline.models.attention import DOCUMENTS
from pipeline.models.documents import attend_by_document

WIDE_ATTENTION = "sdpa_wide"
WIDE_EXPERTS = "grouped_mm_wide"
WIDE_DOCUMENTS = f"{DOCUMENTS}_wide"


def lacks_bf16(device: torch.device) -> bool:
    """Whether bf16 matrix products are slow on a device: on CPUs without AVX-512 bf16 or AMX."""
    if device.type != "cpu":
        return False
    if platform.machine() in ("x86_64", "AMD64"):  # where oneDNN calls bf16 supported that it emulates with AVX-512
        return not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return not torch.ops.mkldnn._is_mkldnn_bf16_supported()


def lacks_fp16(device: torch.device) -> bool:
    """Whether fp16 matrix products are slow on a device: on CPUs without AVX-512 FP16 or AMX FP16."""
    return device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def lacks(precision: str, device: torch.device) -> bool:
    """Whether products of a precision (`bf16`, `fp16`, `fp32`) are slow on a device."""
    return (precision == "bf16" and lacks_bf16(device)) or (precision == "fp16" and lacks_fp16(device))


def widen_products(model: PreTrainedModel) -> None:
    """Take a bf16 or fp16 model's matrix products in fp32: its linear layers', its attention's and its experts'."""
    AttentionInterface.register(WIDE_ATTENTION, _wide_attention)
    AttentionMaskInterface.register(WIDE_ATTENTION, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    AttentionInterface.register(WIDE_DOCUMENTS, _wide_documents)
    is_by_document = model.config._attn_implementation == DOCUMENTS
    model.set_attn_implementation(WIDE_DOCUMENTS if is_by_document else WIDE_ATTENTION)
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = _WideLinear
        elif type(module) is Conv1D:
            module.__class__ = _WideConv1D
    if any(hasattr(module, "_apply_gate") for module in model.modules()):  # what transformers gives stacked experts
        ALL_EXPERTS_FUNCTIONS.register(WIDE_EXPERTS, _wide_experts)
        model.set_experts_implementation(WIDE_EXPERTS)


def has_wide_products(layer: nn.Module) -> bool:
    """Whether a linear layer's product is taken in fp32."""
    return isinstance(layer, _WideLinear)


class _WideLinear(nn.Linear):
    """A linear layer whose product is taken in fp32."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        return linear(input.float(), self.weight.float(), bias).to(input.dtype)


class _WideConv1D(Conv1D):
    """GPT-2's linear layer, whose weight lies the other way round, with its product taken in fp32."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return linear(x.float(), self.weight.float().T, self.bias.float()).to(x.dtype)


def _wide_experts(
    experts: nn.Module, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """A mixture of experts in fp32; what lies between an expert's two products is not rounded."""
    shape = ("num_experts", "has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "_is_expert_parallel")
    wide = SimpleNamespace(
        **{name: getattr(experts, name) for name in (*shape, "_apply_gate")},
        gate_up_proj=experts.gate_up_proj.float(), down_proj=experts.down_proj.float(),
    )  # fmt: skip
    output = ALL_EXPERTS_FUNCTIONS["grouped_mm"](wide, hidden_states.float(), top_k_index, top_k_weights.float())
    return output.to(hidden_states.dtype)


def _wide_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention in fp32; shapes (B, heads, L, head size), returned as (B, L, heads, head size)."""
    if softcap is not None or s_aux is not None:
        raise ConfigError("engine.precision must be fp32 on this CPU: the attention of this model has caps or sinks")
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.float().repeat_interleave(groups, dim=1) for tensor in (key, value))
    causal = module.is_causal and attention_mask is None and query.shape[2] > 1
    output = scaled_dot_product_attention(
        query.float(), key, value, attn_mask=attention_mask, dropout_p=dropout, is_causal=causal, scale=scaling
    )
    return output.transpose(1, 2).to(query.dtype).contiguous(), None


def _wide_documents(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *arguments: Any, **settings: Any
) -> tuple[torch.Tensor, None]:
    """Attention by document in fp32; shapes as there."""
    output, _ = attend_by_document(module, query.float(), key.float(), value.float(), *arguments, **settings)
    return output.to(query.dtype), None
