"""Forms of decoders that a run gives fresh weights. Each is one of transformers' own, so that an export is, too."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Config


class Decoder(Config):
    """What all forms have."""

    type: str
    """The model's form."""
    hidden_size: PositiveInt
    """Width of the residual stream."""
    num_layers: PositiveInt
    """Number of decoder blocks."""
    num_heads: PositiveInt
    """Number of query heads."""
    max_positions: PositiveInt = 4096
    """Longest sequence that positions are prepared for."""
    tie_embeddings: bool = False
    """Use one matrix for the input embedding and the output projection."""
    pad_vocabulary_to: PositiveInt = 1
    """Round the rows of the embeddings up to a multiple of it, which GPUs like; no loss counts what is added, and
    evaluation, generation and export leave it out."""
    init: Literal["plain", "scaled", "mup"] = "scaled"
    """Spread of the initial matrices: one for all; less by sqrt(2 * num_layers) where one writes into the residual
    stream; or that, and spreads and learning rates that keep their meaning from base_width on (arXiv:2203.03466)."""
    init_std: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Standard deviation of the initial weights."""
    base_width: PositiveInt | None = None
    """With init mup: the hidden_size at which init_std and the learning rate were found, with heads of this size."""

    @property
    def width_multiplier(self) -> float:
        """How much wider it is than the model its hyperparameters were found with; 1 but for init mup."""
        return self.hidden_size / self.base_width if self.base_width is not None else 1.0

    def padded(self, vocab_size: int) -> int:
        """Rows of the embeddings for a vocabulary."""
        return -(-vocab_size // self.pad_vocabulary_to) * self.pad_vocabulary_to

    @model_validator(mode="after")
    def mup_has_a_base(self) -> "Decoder":
        """Maximal update parametrisation scales from a width, and scales the two embeddings differently."""
        if (self.init == "mup") != (self.base_width is not None):
            raise ValueError(
                f"base_width ({_shown(self.base_width)}) and init mup need each other; init is {self.init}"
            )
        if self.init == "mup" and self.tie_embeddings:
            raise ValueError("tie_embeddings (true) must be false when init is mup")
        return self


class Gpt2Model(Decoder):
    """GPT-2's form: learned positions, LayerNorm, biases, GELU (Radford et al. 2019); without dropout."""

    type: Literal["gpt2"]
    """The model's form."""
    tie_embeddings: bool = True
    """Use one matrix for the input embedding and the output projection."""
    intermediate_size: PositiveInt | None = None
    """Width of the feed-forward layer; 4 * hidden_size if not given."""

    @model_validator(mode="after")
    def heads_divide(self) -> "Gpt2Model":
        """Heads must divide the width."""
        _require_multiple(self, "hidden_size", "num_heads")
        return self


class RotaryDecoder(Decoder):
    """Forms with rotary positions and grouped-query attention."""

    num_key_value_heads: PositiveInt
    """Number of key and value heads (grouped-query attention)."""
    head_size: PositiveInt | None = None
    """Size of a head; hidden_size / num_heads if not given."""
    rope_theta: PositiveFloat = 10_000.0
    """Base of the rotary position frequencies."""

    @property
    def head_width(self) -> int:
        """Size of a head."""
        return self.head_size or self.hidden_size // self.num_heads

    @model_validator(mode="after")
    def heads_divide(self) -> "RotaryDecoder":
        """Heads without a size of their own must divide the width, key/value heads the query heads, and 2 a head."""
        if self.head_size is None:
            _require_multiple(self, "hidden_size", "num_heads")
        _require_multiple(self, "num_heads", "num_key_value_heads")
        if self.head_width % 2:
            raise ValueError(f"the size of a head ({self.head_width}) must be even, for rotary positions")
        return self


class LlamaModel(RotaryDecoder):
    """A Llama-form decoder (Touvron et al. 2023, arXiv:2302.13971)."""

    type: Literal["llama"]
    """The model's form."""
    intermediate_size: PositiveInt
    """Width of the gated feed-forward layer."""


class Olmo2Model(RotaryDecoder):
    """OLMo 2's form: queries and keys normalised as a whole, norms behind each layer (arXiv:2501.00656)."""

    type: Literal["olmo2"]
    """The model's form."""
    intermediate_size: PositiveInt
    """Width of the gated feed-forward layer."""


class Qwen3Model(RotaryDecoder):
    """Qwen3's form: queries and keys normalised head by head (arXiv:2505.09388)."""

    type: Literal["qwen3"]
    """The model's form."""
    intermediate_size: PositiveInt
    """Width of the gated feed-forward layer."""


class Qwen3MoeModel(RotaryDecoder):
    """Qwen3's form with a mixture of experts in each block: a router sends a token to some of them."""

    type: Literal["qwen3_moe"]
    """The model's form."""
    num_experts: PositiveInt
    """Experts of a block."""
    experts_per_token: PositiveInt
    """To how many a token is sent."""
    expert_size: PositiveInt
    """Width of an expert, a gated feed-forward layer."""
    router_loss_weight: NonNegativeFloat = 0.001
    """Weight of the loss that balances experts, which is added to the gradient of the training loss, not to the loss
    that is reported (Fedus et al. 2022, arXiv:2101.03961, equations 4 to 6)."""

    @model_validator(mode="after")
    def tokens_have_experts(self) -> "Qwen3MoeModel":
        """A token goes to as many different experts."""
        if self.experts_per_token > self.num_experts:
            raise ValueError(
                f"experts_per_token ({self.experts_per_token}) must be at most num_experts ({self.num_experts})"
            )
        return self


def _require_multiple(form: Decoder, whole: str, part: str) -> None:
    size, share = getattr(form, whole), getattr(form, part)
    if size % share:
        raise ValueError(f"{whole} ({size}) must be a multiple of {part} ({share})")


def _shown(value: int | None) -> str:
    return "null" if value is None else str(value)
