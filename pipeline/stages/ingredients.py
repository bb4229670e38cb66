"""What a training run learns from: tokenizer, sequences, held-out sequences."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.data import CorpusData
from pipeline.config.model import CheckpointModel, HuggingFaceModel
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import Corpus, open_corpus
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cut, Cuts, Packing
from pipeline.data.holes import read_withdrawn
from pipeline.data.loader import Sequences
from pipeline.data.noise import Noise
from pipeline.data.validation import held_out_corpora
from pipeline.errors import CorpusError, TokenizerError
from pipeline.models.safetensors_folder import read_form
from pipeline.runtime.logs import get_logger
from pipeline.stages.data.plan import source_names, withdrawn_files
from pipeline.stages.masking import noise_of
from pipeline.stages.run_folder import read_run
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
    others: Mapping[str, Sequences]
    """The same of `evaluation.corpora`, which become windows."""
    noise: Noise | None
    """Of masked language modelling."""


def open_data(config: RunConfig) -> TrainingData:
    """Open what the config names. Raises CorpusError or TokenizerError in one sentence."""
    tokenizer = load_tokenizer(tokenizer_folder(config))
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
    others, noise = _others(config, tokenizer), noise_of(config.objective, tokenizer, config.seed)
    return TrainingData(tokenizer, source, held_out, Cut(data.sequence_length, packing), others, noise)


def tokenizer_folder(config: RunConfig) -> Path:
    """Where a run's tokenizer lies. Raises RunError, CorpusError or TokenizerError where it does not."""
    if config.tokenizer is not None:
        return Path(config.tokenizer)
    if isinstance(config.model, CheckpointModel):
        read_run(config.model.run)  # a missing run is told before its tokenizer
        return Path(config.model.run) / "tokenizer"
    if isinstance(config.model, HuggingFaceModel):
        read_form(config.model.path)  # as is a missing folder
        return Path(config.model.path)
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
        _require_tokenizer("data.sources", corpus, folder, tokenizer)
    return corpora


def _require_tokenizer(key: str, corpus: Corpus, folder: str, tokenizer: Tokenizer) -> None:
    if corpus.manifest.tokenizer.fingerprint != tokenizer.fingerprint():
        raise TokenizerError(
            f"{key}: corpus {folder} was prepared with another tokenizer"
            f" ({corpus.manifest.tokenizer.fingerprint[:12]}) than the model's ({tokenizer.fingerprint()[:12]});"
            " prepare it with tokenizer.type given and the model's tokenizer; or, if the model was trained with the"
            " corpus's, set tokenizer to the folder of that"
        )


def _others(config: RunConfig, tokenizer: Tokenizer) -> dict[str, Sequences]:
    """The validation splits of `evaluation.corpora`."""
    found: dict[str, Sequences] = {}
    for name, one in config.evaluation.corpora.items():
        corpus = open_corpus(one.corpus, config.data.cache if isinstance(config.data, CorpusData) else None)
        _require_tokenizer(f"evaluation.corpora.{name}", corpus, one.corpus, tokenizer)
        found[name] = held_out_corpora([corpus], one.source)
    return found


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
