"""Our configs of fresh models as transformers' own, which is what a run and its export keep."""

from collections.abc import Callable
from typing import Any

from transformers import (
    GPT2Config,
    LlamaConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

from pipeline.config.decoders import (
    Decoder,
    Gpt2Model,
    LlamaModel,
    Olmo2Model,
    Qwen3Model,
    Qwen3MoeModel,
    RotaryDecoder,
)
from pipeline.models.initialization import WIDTH_MULTIPLIER


def decoder_config(model: Decoder, vocab_size: int, eos_id: int | None, pad_id: int | None) -> PretrainedConfig:
    """transformers' config of a fresh model for a vocabulary of a given size, which is padded as the model says."""
    tokens = {"vocab_size": model.padded(vocab_size), "eos_token_id": eos_id, "pad_token_id": pad_id}
    form = _BUILDERS[type(model)](model, {**tokens, **_common(model)})
    if model.init == "mup":
        setattr(form, WIDTH_MULTIPLIER, model.width_multiplier)
    return form


def _common(model: Decoder) -> dict[str, Any]:
    return {
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.num_layers,
        "num_attention_heads": model.num_heads,
        "max_position_embeddings": model.max_positions,
        "tie_word_embeddings": model.tie_embeddings,
        "initializer_range": model.init_std,
        "bos_token_id": None,
        "use_cache": False,
    }


def _rotary(model: RotaryDecoder) -> dict[str, Any]:
    return {
        "num_key_value_heads": model.num_key_value_heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_theta},
        "head_dim": model.head_width,  # transformers' own default is 128 in some forms
    }


def _gated(form: type[PretrainedConfig]) -> Callable[[Any, dict[str, Any]], PretrainedConfig]:
    """Forms with one gated feed-forward layer in a block."""

    def build(model: LlamaModel | Olmo2Model | Qwen3Model, common: dict[str, Any]) -> PretrainedConfig:
        return form(intermediate_size=model.intermediate_size, **common, **_rotary(model))

    return build


def _qwen3_moe(model: Qwen3MoeModel, common: dict[str, Any]) -> Qwen3MoeConfig:
    return Qwen3MoeConfig(
        intermediate_size=model.expert_size,  # of blocks without experts, of which there are none
        moe_intermediate_size=model.expert_size,
        num_experts=model.num_experts,
        num_experts_per_tok=model.experts_per_token,
        norm_topk_prob=True,
        router_aux_loss_coef=model.router_loss_weight,
        **common,
        **_rotary(model),
    )


def _gpt2(model: Gpt2Model, common: dict[str, Any]) -> GPT2Config:
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout"), 0.0)
    return GPT2Config(n_inner=model.intermediate_size or 4 * model.hidden_size, **common, **dropout)


_BUILDERS: dict[type[Decoder], Callable[[Any, dict[str, Any]], PretrainedConfig]] = {
    LlamaModel: _gated(LlamaConfig),
    Olmo2Model: _gated(Olmo2Config),
    Qwen3Model: _gated(Qwen3Config),
    Qwen3MoeModel: _qwen3_moe,
    Gpt2Model: _gpt2,
}
