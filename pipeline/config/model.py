"""What model to train: a fresh one of a given form, or one taken from an earlier run, and its adapter."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.encoders import BertModel, ModernBertModel

Attention = Literal["eager", "sdpa", "flash_attention_2"]


class LlamaModel(Config):
    """A Llama-form decoder with fresh weights (Touvron et al. 2023, arXiv:2302.13971)."""

    type: Literal["llama"]
    """The model's form."""
    hidden_size: PositiveInt
    """Width of the residual stream."""
    intermediate_size: PositiveInt
    """Width of the gated feed-forward layer."""
    num_layers: PositiveInt
    """Number of decoder blocks."""
    num_heads: PositiveInt
    """Number of query heads."""
    num_key_value_heads: PositiveInt
    """Number of key and value heads (grouped-query attention)."""
    max_positions: PositiveInt = 4096
    """Longest sequence that positions are prepared for."""
    rope_theta: PositiveFloat = 10_000.0
    """Base of the rotary position frequencies."""
    tie_embeddings: bool = False
    """Use one matrix for the input embedding and the output projection."""
    init_std: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights; residual outputs are scaled by 1/sqrt(2 * num_layers)."""

    @model_validator(mode="after")
    def heads_divide(self) -> "LlamaModel":
        """Heads must divide the width, and key/value heads the query heads."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        if self.num_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_heads ({self.num_heads}) must be a multiple of num_key_value_heads ({self.num_key_value_heads})"
            )
        return self


class CheckpointModel(Config):
    """The model of an earlier run, with its weights and its tokenizer."""

    type: Literal["checkpoint"]
    """Take the model from a run folder."""
    run: str
    """The run folder."""
    step: PositiveInt | None = None
    """Which checkpoint; the newest good one if not given."""
    average: PositiveInt = 1
    """The mean of the weights of so many checkpoints, that one and those before it (arXiv:1803.05407)."""


Model = Annotated[LlamaModel | BertModel | ModernBertModel | CheckpointModel, Field(discriminator="type")]


class NoAdapter(Config):
    """Train every weight."""

    type: Literal["none"]
    """No adapter."""


class LoraAdapter(Config):
    """Train low-rank updates of the linear layers only (Hu et al. 2021, arXiv:2106.09685)."""

    type: Literal["lora"]
    """Low-rank adaptation, by peft."""
    rank: PositiveInt = 16
    """Rank of each update."""
    alpha: PositiveFloat = 32.0
    """Updates are scaled by alpha / rank."""
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the linear layers that get an update."""


Adapter = Annotated[NoAdapter | LoraAdapter, Field(discriminator="type")]
