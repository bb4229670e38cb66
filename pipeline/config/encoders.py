"""Encoders: every token attends to those on both sides of it. They are pre-trained by predicting masked tokens."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config


class _Encoder(Config):
    """What encoders have in common."""

    hidden_size: PositiveInt
    """Width of the residual stream."""
    intermediate_size: PositiveInt
    """Width of the feed-forward layer."""
    num_layers: PositiveInt
    """Number of blocks."""
    num_heads: PositiveInt
    """Number of heads."""
    init_std: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights."""

    @model_validator(mode="after")
    def heads_divide(self) -> "_Encoder":
        """Heads must divide the width."""
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size ({self.hidden_size}) must be a multiple of num_heads ({self.num_heads})")
        return self


class BertModel(_Encoder):
    """A BERT-form encoder with fresh weights (Devlin et al. 2018, arXiv:1810.04805), without dropout."""

    type: Literal["bert"]
    """The model's form."""
    max_positions: PositiveInt = 512
    """Longest sequence; each position has an embedding of its own."""


class ModernBertModel(_Encoder):
    """A ModernBERT-form encoder with fresh weights (Warner et al. 2024, arXiv:2412.13663): rotary positions, gated
    feed-forward layers, and blocks of local attention between those of global."""

    type: Literal["modernbert"]
    """The model's form."""
    max_positions: PositiveInt = 8192
    """Longest sequence that positions are prepared for."""
    global_every: PositiveInt = 3
    """Every so many blocks, beginning with the first, attend to the whole sequence; the others locally."""
    local_attention: Annotated[int, Field(ge=2, multiple_of=2)] = 128
    """Window of local attention: half of it on each side of a token."""
    global_rope_theta: PositiveFloat = 160_000.0
    """Base of the rotary position frequencies of global attention."""
    local_rope_theta: PositiveFloat = 10_000.0
    """Base of those of local attention."""


ENCODERS = (BertModel, ModernBertModel)
"""The forms."""
