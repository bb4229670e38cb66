"""`tarmac eval`: perplexity and bits per byte of runs on held-out sets, beside baselines, and checks that must hold."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.config.evaluate import BelowUnigram, Check, CorpusSet, EvaluateConfig, EvaluationSet, InstructSet
from pipeline.config.objective import Objective
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.remote.urls import is_url
from pipeline.data.batch import MicroBatch
from pipeline.data.conversations import Conversations
from pipeline.data.cuts import Cut
from pipeline.data.validation import batches, corpus_batches
from pipeline.errors import ConfigError, CorpusError, EvaluationError, TokenizerError
from pipeline.evaluation.baselines import gzip_bits_per_byte, token_counts, unigram
from pipeline.evaluation.measure import Measurement, measure
from pipeline.generation.generate import max_positions
from pipeline.runtime.files import append_json_line, write_json
from pipeline.runtime.logs import get_logger
from pipeline.stages.masking import common_objective, fixed_noise
from pipeline.stages.trained import TrainedModel, load_for_inference
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.load import load_tokenizer

log = get_logger("evaluate")


@dataclass(frozen=True)
class Figures:
    """What one model reached on one set."""

    model: str
    set: str
    step: int
    loss: float
    """Nats per token."""
    perplexity: float
    bits_per_byte: float
    tokens: int


@dataclass(frozen=True)
class Baselines:
    """What needs no network on a corpus set."""

    unigram_loss: float
    """Nats per token on the tokens that the models are scored on."""
    unigram_bits_per_byte: float
    gzip_bits_per_byte: float | None
    """Of the whole validation split."""


@dataclass(frozen=True)
class Verdict:
    """A check, held against the figures."""

    check: Check
    passed: bool
    sentence: str
    """Both numbers."""


def evaluate(config: EvaluateConfig, console: Console | None = None) -> dict[str, Any]:
    """Measure every model on every set, print the figures and write them to `config.output`.

    A row goes to `evaluations.jsonl` of each run too.

    Returns:
        What was written: models, baselines, figures, checks.

    Raises:
        EvaluationError: A check does not hold (the figures are written first), or a loss is not a finite number.
        TokenizerError: A model's tokenizer is not the corpus's.
        ConfigError: A set's sequences are longer than a model, or the output cannot be written.
        CorpusError, CheckpointError, RunError: Something named in the config is missing or damaged.
    """
    make_parent(config.output)
    objective = common_objective(config.models)
    baselines = {
        name: measure_baselines(one, config, objective)
        for name, one in config.sets.items()
        if isinstance(one, CorpusSet) and _has_baselines(name, one, config)
    }
    figures = [figure for name in config.models for figure in _evaluate_model(name, config, baselines)]
    verdicts = [judge(check, figures, baselines) for check in config.checks]
    result = _result(config, figures, baselines, verdicts)
    write_json(config.output, result)
    _print(console or Console(), figures, baselines, verdicts)
    failed = [verdict.sentence for verdict in verdicts if not verdict.passed]
    if failed:
        raise EvaluationError(f"{len(failed)} of {len(verdicts)} checks failed: {'; '.join(failed)}")
    return result


def make_parent(output: str) -> None:
    """Make the folder of the figures before anything is measured. Raises ConfigError if it cannot be."""
    try:
        Path(output).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output ({output}) cannot be written: {error.strerror}; name another file") from error


def _has_baselines(name: str, one: CorpusSet, config: EvaluateConfig) -> bool:
    """Whether baselines are measured: it reads all training shards, so if they are elsewhere only where it is asked."""
    return not is_url(one.corpus) or any(
        isinstance(check, BelowUnigram) and check.set == name for check in config.checks
    )


def measure_baselines(one: CorpusSet, config: EvaluateConfig, objective: Objective) -> Baselines:
    """Unigram loss on what models with an objective are scored on in a corpus set, and gzip's bits per byte."""
    corpus = open_corpus(one.corpus, one.cache)
    tokenizer = load_tokenizer(corpus.tokenizer_folder)
    counts = token_counts(corpus, tokenizer.vocab_size)
    guessed = unigram(counts, _windows(one, config, objective, tokenizer), tokenizer.byte_lengths())
    if not guessed.text_bytes:
        raise CorpusError(f"corpus {one.corpus} has no text in its validation split; raise validation_share")
    squeezed = gzip_bits_per_byte(corpus, tokenizer) if objective.type == "causal" else None
    return Baselines(guessed.loss, guessed.bits_per_byte, squeezed)


def _windows(
    one: CorpusSet, config: EvaluateConfig, objective: Objective, tokenizer: Tokenizer
) -> Iterator[MicroBatch]:
    noise = fixed_noise(objective, tokenizer)
    return corpus_batches(one.corpus, one.sequence_length, config.micro_size, config.max_sequences, one.cache, noise)


def _evaluate_model(name: str, config: EvaluateConfig, baselines: Mapping[str, Baselines]) -> Iterator[Figures]:
    run = config.models[name]
    trained = load_for_inference(run, ema=name in config.ema)
    for set_name, one in config.sets.items():
        check_fit(name, trained, set_name, one)
        is_masked = trained.config.objective.type == "masked"
        total = measure(trained.model, set_batches(one, trained, config), trained.tokenizer.byte_lengths(),
                        is_masked=is_masked)  # fmt: skip
        figure = make_figures(name, set_name, trained.step, total)
        unigram_loss = baselines[set_name].unigram_loss if set_name in baselines else None
        _append_row(trained, figure, unigram_loss)
        yield figure


def check_fit(name: str, trained: TrainedModel, set_name: str, one: EvaluationSet) -> None:
    """Refuse a set that the model cannot be scored on. Raises ConfigError, TokenizerError."""
    positions = max_positions(trained.model)
    if positions is not None and one.sequence_length > positions:
        raise ConfigError(
            f"sets.{set_name}.sequence_length ({one.sequence_length}) is more than the {positions} positions"
            f" of model {name}; lower it"
        )
    if isinstance(one, InstructSet) and trained.config.objective.type == "masked":
        raise ConfigError(
            f"sets.{set_name}.type (instruct) asks for answers, and model {name} predicts masked tokens; give a set of"
            " type corpus"
        )
    if isinstance(one, CorpusSet):
        expected = open_corpus(one.corpus, one.cache).manifest.tokenizer.fingerprint
        if trained.tokenizer.fingerprint() != expected:
            raise TokenizerError(
                f"model {name} ({trained.run}) was trained with tokenizer {trained.tokenizer.fingerprint()[:12]} but"
                f" sets.{set_name} ({one.corpus}) was prepared with {expected[:12]}; prepare that corpus with the"
                " model's tokenizer"
            )


def set_batches(one: EvaluationSet, trained: TrainedModel, config: EvaluateConfig) -> Iterator[MicroBatch]:
    """The micro batches of a set for a model."""
    if isinstance(one, CorpusSet):
        return _windows(one, config, trained.config.objective, trained.tokenizer)
    conversations = Conversations(one.path, trained.tokenizer, one.sequence_length)
    if conversations.num_too_long:
        log.info(
            "%s: %d conversations longer than %d tokens are left out",
            one.path,
            conversations.num_too_long,
            one.sequence_length,
        )
    cut = Cut(one.sequence_length, "whole")
    return batches(conversations, cut, config.micro_size, config.max_sequences)


def make_figures(model: str, set_name: str, step: int, total: Measurement) -> Figures:
    """A measurement's ratios. Raises CorpusError if nothing was scored, EvaluationError if the loss is not finite."""
    if not total.text_bytes:
        raise CorpusError(f"set {set_name} has no text to score; give one with longer documents or answers")
    if not math.isfinite(total.loss):
        raise EvaluationError(
            f"model {model} has a loss of {total.loss} on set {set_name}: its training diverged; use an earlier step"
        )
    return Figures(model, set_name, step, total.loss, total.perplexity, total.bits_per_byte, total.tokens)


def judge(check: Check, figures: list[Figures], baselines: Mapping[str, Baselines]) -> Verdict:
    """Whether a check holds, and the sentence that says so with both numbers."""
    by_model = {figure.model: figure for figure in figures if figure.set == check.set}
    model = by_model[check.model]
    if isinstance(check, BelowUnigram):
        baseline = baselines[check.set].unigram_loss
        limit = check.max_ratio * baseline
        return Verdict(
            check,
            model.loss <= limit,
            f"{check.model} has {model.loss:.4f} nats per token on {check.set}, at most {limit:.4f} is asked"
            f" ({check.max_ratio} of the unigram baseline's {baseline:.4f})",
        )
    other = by_model[check.other]
    return Verdict(
        check,
        model.bits_per_byte < other.bits_per_byte,
        f"{check.model} has {model.bits_per_byte:.4f} bits per byte on {check.set}, less than the"
        f" {other.bits_per_byte:.4f} of {check.other} is asked",
    )


def _append_row(trained: TrainedModel, figure: Figures, unigram_loss: float | None) -> None:
    row = {key: value for key, value in asdict(figure).items() if key != "model"}
    row |= {"unigram_loss": unigram_loss, "ema": trained.ema}
    append_json_line(trained.run / "evaluations.jsonl", {"time": round(time.time(), 3), **row})


def _result(
    config: EvaluateConfig, figures: list[Figures], baselines: Mapping[str, Baselines], verdicts: list[Verdict]
) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "baselines": {name: asdict(one) for name, one in baselines.items()},
        "figures": [asdict(figure) for figure in figures],
        "checks": [
            {**verdict.check.model_dump(mode="json"), "passed": verdict.passed, "sentence": verdict.sentence}
            for verdict in verdicts
        ],
    }


def _print(
    console: Console, figures: list[Figures], baselines: Mapping[str, Baselines], verdicts: list[Verdict]
) -> None:
    table = Table("set", "model", title="Held-out loss")
    for heading in ("step", "tokens", "nats/token", "perplexity", "bits/byte"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(figure.set for figure in figures):
        for row in _rows(name, figures, baselines.get(name)):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    for verdict in verdicts:
        console.print(f"{'passed' if verdict.passed else 'FAILED'}: {verdict.sentence}", highlight=False)


def _rows(name: str, figures: list[Figures], baseline: Baselines | None) -> Iterator[tuple[str, ...]]:
    if baseline is not None:
        loss = baseline.unigram_loss
        yield name, "(unigram)", "", "", f"{loss:.4f}", f"{math.exp(loss):.2f}", f"{baseline.unigram_bits_per_byte:.4f}"
        if baseline.gzip_bits_per_byte is not None:
            yield name, "(gzip)", "", "", "", "", f"{baseline.gzip_bits_per_byte:.4f}"
    for one in figures:
        if one.set == name:
            numbers = (f"{one.loss:.4f}", f"{one.perplexity:.2f}", f"{one.bits_per_byte:.4f}")
            yield name, one.model, str(one.step), f"{one.tokens:,}", *numbers
