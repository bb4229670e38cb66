"""The model of a training run, inside its objective, and the weights that it begins with."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pipeline.config.decoders import Decoder
from pipeline.config.encoders import ENCODERS
from pipeline.config.model import CheckpointModel, HuggingFaceModel, LoraAdapter
from pipeline.config.objective import MaskedObjective
from pipeline.config.run import RunConfig
from pipeline.errors import ConfigError, TokenizerError
from pipeline.models.adapters import adapted_weights, add_lora
from pipeline.models.build import empty_model, transformers_config
from pipeline.models.encoders import is_encoder
from pipeline.models.flops import encoder_flops_per_token, training_flops_per_token
from pipeline.models.fp8 import use_fp8
from pipeline.models.initialization import SCALED, Spread, initial_weights, muon_fault, width_multiplier
from pipeline.models.processor import lacks, widen_products
from pipeline.models.weights import Weights
from pipeline.objectives.causal import CausalLoss
from pipeline.objectives.masked import MaskedLoss
from pipeline.objectives.objective import Objective
from pipeline.stages.ingredients import tokenizer_folder
from pipeline.stages.trained import Base, load_start
from pipeline.tokenizer.base import Tokenizer


@dataclass(frozen=True)
class Ingredients:
    """A model ready for the engine, and what its weights are to be."""

    loss: Objective
    """The model inside its objective; it holds no weights yet."""
    weights: Weights
    """Its first weights, in fp32."""
    transformers_config: PretrainedConfig
    """transformers' config of the model without adapter."""
    base: Base | None
    """What it is started from."""


def open_base(config: RunConfig, tokenizer: Tokenizer, step: int | None = None) -> Base | None:
    """The weights that a run starts from, if it does from any.

    A run that resumes gives the step of its base that it was started from: the base may have trained on since.

    Raises:
        CheckpointError, ConfigError, TokenizerError: In one sentence.
    """
    if isinstance(config.model, (Decoder, *ENCODERS)):
        return None
    base = load_start(config.model, step)
    _require_form(config, base.form)
    _require_tokenizer(config, base, tokenizer)
    return base


def build(
    config: RunConfig,
    tokenizer: Tokenizer,
    device: torch.device,
    base: Base | None,
    building: AbstractContextManager[None] | None = None,
) -> Ingredients:
    """Build the model on the CPU, to be trained on `device`.

    Args:
        config: What the run is to do.
        tokenizer: Its tokenizer.
        device: Where it trains.
        base: What it starts from.
        building: What parameters are made in, such as the engine's `partitioned`.

    Raises:
        ConfigError, CheckpointError: In one sentence; the same on all ranks.
    """
    form = base.form if base else _fresh_form(config, tokenizer)
    _check_positions(config, form)
    source = base.weights if base else partial(initial_weights, seed=config.seed, spread=_spread(config, tokenizer))
    with building or nullcontext():
        objective, weights = assemble(config, form, tokenizer.vocab_size, device, source)
    if config.engine.fp8:
        use_fp8(objective.model)
    return Ingredients(objective, weights, form, base)


def assemble(
    config: RunConfig,
    form: PretrainedConfig,
    vocab_size: int,
    device: torch.device,
    source: Callable[[PreTrainedModel], Weights],
    dtype: str = "fp32",
) -> tuple[Objective, Weights]:
    """A model with its adapter, inside its objective, without weights, and what its weights are to be.

    Args:
        config: What is done with it.
        form: transformers' config of it.
        vocab_size: Ids of the tokenizer; those beyond only pad.
        device: Where it trains.
        source: The weights of the model without adapter.
        dtype: Type of its parameters.

    Raises:
        ConfigError, CheckpointError: In one sentence.
    """
    model = empty_model(form, dtype, config.engine.attention)
    weights = source(model)
    if config.optimizer.type == "muon" and (fault := muon_fault(model)):
        raise ConfigError(f"optimizer.type muon is not for this model: {fault}; use adamw")
    if config.optimizer.type != "adamw" and width_multiplier(form) != 1:
        raise ConfigError(
            f"optimizer.type ({config.optimizer.type}) must be adamw: the model that the run starts from has init mup"
        )
    if lacks(config.engine.precision, device):
        widen_products(model)
    wrapped: nn.Module = model
    if isinstance(config.adapter, LoraAdapter):
        wrapped = add_lora(model, config.adapter, config.seed)
        weights = adapted_weights(wrapped, weights, config.seed)
    return _with_objective(config, wrapped, vocab_size), weights


def flops_per_token(config: RunConfig, model: PretrainedConfig, sequence_length: int) -> float:
    """Floating-point operations of a training step for each token of a sequence of some length."""
    if isinstance(config.objective, MaskedObjective):
        return encoder_flops_per_token(model, sequence_length, config.objective.share)
    return training_flops_per_token(model, sequence_length, is_frozen=config.adapter.type != "none")


def _fresh_form(config: RunConfig, tokenizer: Tokenizer) -> PretrainedConfig:
    assert isinstance(config.model, (Decoder, *ENCODERS))
    return transformers_config(config.model, tokenizer)


def _spread(config: RunConfig, tokenizer: Tokenizer) -> Spread:
    return Spread.of(config.model, tokenizer.vocab_size) if isinstance(config.model, Decoder) else SCALED


def _with_objective(config: RunConfig, model: nn.Module, vocab_size: int) -> Objective:
    compile_loss = config.engine.compile
    if isinstance(config.objective, MaskedObjective):
        return MaskedLoss(model, config.objective.share, compile_loss)
    return CausalLoss(model, compile_loss, vocab_size, config.objective.z_loss)


def _check_positions(config: RunConfig, form: PretrainedConfig) -> None:
    """Raise ConfigError if sequences are longer than the model has positions for."""
    length = max(stretch.sequence_length for stretch in config.stretches)
    positions = getattr(form, "max_position_embeddings", None)  # some forms have no such limit
    if positions is not None and length > positions:
        raise ConfigError(
            f"data.sequence_length ({length}) exceeds the model's max_positions ({positions}); lower the one or raise"
            " the other"
        )


def _require_tokenizer(config: RunConfig, base: Base, tokenizer: Tokenizer) -> None:
    """A run's model takes the run's tokenizer; one from elsewhere any that it has ids for."""
    if isinstance(config.model, CheckpointModel) and base.tokenizer_fingerprint != tokenizer.fingerprint():
        raise TokenizerError(
            f"tokenizer {config.tokenizer} differs from the one of run {config.model.run}; leave tokenizer out"
        )
    ids = base.form.vocab_size
    if tokenizer.vocab_size > ids:
        raise TokenizerError(
            f"tokenizer {tokenizer_folder(config)} has {tokenizer.vocab_size} ids and the model {ids};"
            " give the one that the model was trained with"
        )


def _require_form(config: RunConfig, form: PretrainedConfig) -> None:
    """Of a fresh model, the config tells it."""
    fitting = "masked" if is_encoder(form) else "causal"
    if config.objective.type != fitting:
        assert isinstance(config.model, CheckpointModel | HuggingFaceModel)
        whence = config.model.run if isinstance(config.model, CheckpointModel) else config.model.path
        raise ConfigError(
            f"objective.type ({config.objective.type}) does not fit the {form.model_type} model of {whence}; set it to"
            f" {fitting}"
        )
