"""What a training run is made of: tokenizer, sequences, held-out batches, model."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.config.data import CorpusData
from pipeline.config.model import CheckpointModel, LoraAdapter
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cut, Cuts, Packing
from pipeline.data.holes import read_withdrawn
from pipeline.data.loader import Sequences
from pipeline.data.validation import held_out_corpora
from pipeline.errors import ConfigError, CorpusError, TokenizerError
from pipeline.models.adapters import add_lora
from pipeline.models.build import fresh_model, transformers_config
from pipeline.models.processor import lacks_bf16, widen_products
from pipeline.objectives.causal import CausalLoss
from pipeline.runtime.logs import get_logger
from pipeline.stages.data.plan import source_names, withdrawn_files
from pipeline.stages.run_folder import read_run
from pipeline.stages.trained import Base, load_base
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer, tokenizer_fault

_log = get_logger("data")


@dataclass(frozen=True)
class TrainingData:
    """Tokenizer, training sequences and held-out sequences."""

    tokenizer: Tokenizer
    source: Sequences
    held_out: Sequences | None
    held_out_cut: Cut
    """How held-out data become sequences."""


def open_data(config: RunConfig) -> TrainingData:
    """Open what the config names. Raises CorpusError or TokenizerError in one sentence."""
    tokenizer = load_tokenizer(_tokenizer_folder(config))
    data = config.data
    if isinstance(data, CorpusData):
        corpora = _corpora(data, tokenizer)
        source: Sequences = Corpora(corpora, "train", dict(map(read_withdrawn, withdrawn_files(data))))
        held_out: Sequences | None = _held_out(corpora)
        packing: Packing = "concat"
    else:
        source = Conversations(data.train, tokenizer, data.sequence_length)
        held_out = Conversations(data.validation, tokenizer, data.sequence_length)
        packing = "whole"
        if source.num_too_long:
            _log.info("%s: %d conversations are longer than %d tokens and left out",
                      data.train, source.num_too_long, data.sequence_length)  # fmt: skip
    _check_enough(source, config, packing)
    return TrainingData(tokenizer, source, held_out, Cut(data.sequence_length, packing))


def _tokenizer_folder(config: RunConfig) -> Path:
    if config.tokenizer is not None:
        return Path(config.tokenizer)
    if isinstance(config.model, CheckpointModel):
        read_run(config.model.run)  # a missing run is told before its tokenizer
        return Path(config.model.run) / "tokenizer"
    assert isinstance(config.data, CorpusData)
    corpus = open_corpus(config.data.sources[0].corpus, config.data.cache)
    corpus.manifest.shards("train", config.data.sources[0].source)  # a missing corpus is told before its tokenizer
    if fault := tokenizer_fault(corpus.tokenizer_folder, corpus.manifest.tokenizer.fingerprint):
        repair = f"`tarmac verify {corpus.folder} --repair CONFIG` makes it again"
        raise TokenizerError(f"tokenizer {corpus.tokenizer_folder}: {fault}; {repair}")
    return corpus.tokenizer_folder


def _corpora(data: CorpusData, tokenizer: Tokenizer) -> dict[str, tuple[Corpus, str]]:
    corpora = {}
    for (folder, source), name in source_names(data).items():
        corpus = open_corpus(folder, data.cache)
        corpora[name] = (corpus, source)
        if corpus.manifest.tokenizer.fingerprint != tokenizer.fingerprint():
            raise TokenizerError(
                f"data.sources: corpus {folder} was prepared with another tokenizer"
                f" ({corpus.manifest.tokenizer.fingerprint[:12]}) than the model's ({tokenizer.fingerprint()[:12]});"
                " prepare it with tokenizer.type given and the model's tokenizer"
            )
    return corpora


def _held_out(corpora: dict[str, tuple[Corpus, str]]) -> Corpora | None:
    distinct = list({corpus.folder: corpus for corpus, _ in corpora.values()}.values())
    with_split = [corpus for corpus in distinct if corpus.manifest.tokens("validation")]
    if not with_split:
        _log.warning("no corpus has a validation split; the run is not evaluated while it trains")
        return None
    return held_out_corpora(with_split)


def _check_enough(source: Sequences, config: RunConfig, packing: Packing) -> None:
    cuts, cut = Cuts(source.shards, config.seed), Cut(config.data.sequence_length, packing)
    available = sum(int(sizes.sum()) for name in source.shards if (sizes := cuts.sizes(name, cut)) is not None)
    if available < config.batch.global_size:
        raise CorpusError(
            f"data has {available} sequences of {config.data.sequence_length} tokens and batch.global_size is"
            f" {config.batch.global_size}; lower batch.global_size or data.sequence_length, or prepare more text"
        )


@dataclass(frozen=True)
class Ingredients:
    """A model ready for the engine."""

    loss: CausalLoss
    """The model inside its objective."""
    transformers_config: object
    """transformers' config of the model without adapter."""
    base: Base | None
    """What it was started from."""


def build(config: RunConfig, tokenizer: Tokenizer, device: torch.device, base_step: int | None = None) -> Ingredients:
    """Build the model with its first weights, on the CPU, to be trained on `device`.

    A run that resumes gives the step of its base that it was started from: the base may have trained on since.

    Raises:
        ConfigError, CheckpointError, TokenizerError: In one sentence.
    """
    engine = config.engine
    base = None
    if isinstance(config.model, CheckpointModel):
        base = load_base(
            config.model.run, base_step or config.model.step,
            average=config.model.average, dtype="fp32", attention=engine.attention,
        )  # fmt: skip
        if base.tokenizer_fingerprint != tokenizer.fingerprint():
            raise TokenizerError(
                f"tokenizer {config.tokenizer} differs from the one of run {config.model.run}; leave tokenizer out"
            )
        model = base.model
    else:
        model = fresh_model(transformers_config(config.model, tokenizer), config.seed, "fp32", engine.attention)
    length = max(stretch.sequence_length for stretch in config.stretches)
    if length > model.config.max_position_embeddings:
        raise ConfigError(
            f"data.sequence_length ({length}) exceeds the model's max_positions"
            f" ({model.config.max_position_embeddings}); lower the one or raise the other"
        )
    plain_config = model.config
    if engine.precision == "bf16" and lacks_bf16(device):
        widen_products(model)
    wrapped = add_lora(model, config.adapter, config.seed) if isinstance(config.adapter, LoraAdapter) else model
    return Ingredients(CausalLoss(wrapped, engine.compile, config.objective.z_loss), plain_config, base)
