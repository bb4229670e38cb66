"""A small model of every form, as config blocks."""

from typing import Any

from pydantic import TypeAdapter

from pipeline.config.decoders import Decoder
from pipeline.config.model import Model

_ALL = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_positions": 64}
_ROTARY = {**_ALL, "num_key_value_heads": 2}

FORMS: dict[str, dict[str, Any]] = {
    "llama": {**_ROTARY, "intermediate_size": 48},
    "qwen3": {**_ROTARY, "intermediate_size": 48, "head_size": 16, "tie_embeddings": True},
    "olmo2": {**_ROTARY, "intermediate_size": 48},
    "gpt2": _ALL,
    "qwen3_moe": {**_ROTARY, "num_experts": 4, "experts_per_token": 2, "expert_size": 24},
}


def decoder(form: str, **changes: Any) -> Decoder:
    """The config of a form's small model."""
    return TypeAdapter(Model).validate_python({"type": form, **FORMS[form], **changes})
