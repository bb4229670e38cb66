"""What model to train: a fresh one of a given form, or one taken from an earlier run or a folder, and its adapter."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.base import Config
from pipeline.config.decoders import Gpt2Model, LlamaModel, Olmo2Model, Qwen3Model, Qwen3MoeModel
from pipeline.config.encoders import BertModel, ModernBertModel


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
    ema: bool = False
    """The average of its weights that the run kept (`ema.decay`), instead of the weights."""


class HuggingFaceModel(Config):
    """A causal model from a folder in Hugging Face's form, with its tokenizer."""

    type: Literal["huggingface"]
    """Take the model from a folder: `config.json` and safetensors; nothing of it is run."""
    path: str
    """The folder."""


Model = Annotated[
    LlamaModel
    | Qwen3Model
    | Olmo2Model
    | Gpt2Model
    | Qwen3MoeModel
    | BertModel
    | ModernBertModel
    | CheckpointModel
    | HuggingFaceModel,
    Field(discriminator="type"),
]


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
