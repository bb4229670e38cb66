"""Which documents a step is made of: computed from the phase table, without logs."""

from functools import lru_cache
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from pipeline.config.run import RunConfig
from pipeline.corpus.reader import DocumentSpan
from pipeline.data.conversations import Conversations
from pipeline.data.order import Order, Sample
from pipeline.data.phases import Phase
from pipeline.data.windows import Windows
from pipeline.engine.checkpoint.commit import newest_commit
from pipeline.errors import RunError
from pipeline.stages.ingredients import first_phase, open_data
from pipeline.stages.run_folder import read_run


def explain(run: str | Path, step: int) -> None:
    """Print the documents of each sample of a step (counted from 1). Raises RunError if the step is not of this run."""
    config = read_run(run)
    if not 1 <= step <= config.num_steps:
        raise RunError(f"--step ({step}) must be in [1, {config.num_steps}], the steps of run {run}")
    documents_column = Column("Documents", overflow="fold")
    table = Table("Sample", "Source", "Epoch", "Shard", "Sequence", documents_column, title=f"{run}, step {step}")
    for sample, documents in step_documents(config, Path(run), step):
        table.add_row(str(sample.number), sample.source, str(sample.epoch), str(sample.shard), str(sample.sequence),
                      ", ".join(documents))  # fmt: skip
    Console().print(table)


def step_documents(config: RunConfig, run: Path, step: int) -> list[tuple[Sample, list[str]]]:
    """The samples of a step with the documents each reads, by origin and position; of a conversation file and line."""
    source = open_data(config).source
    samples = Order(source.shapes, config.seed, _phases(run, first_phase(config, source))).batch(step - 1)
    if isinstance(source, Conversations):
        return [(sample, [source.places[sample.sequence]]) for sample in samples]
    assert isinstance(source, Windows)
    spans = lru_cache(maxsize=8)(lambda name, shard: list(source.shard(name, shard).documents()))
    length = source.sequence_length
    return [(sample, _overlapping(spans(sample.source, sample.shard), sample, length)) for sample in samples]


def _overlapping(spans: list[DocumentSpan], sample: Sample, length: int) -> list[str]:
    start = sample.sequence * length
    read = [span.record for span in spans if span.start < start + length and span.stop > start]
    return [f"{record.origin}#{record.position}" for record in read]


def _phases(run: Path, first: Phase) -> tuple[Phase, ...]:
    """The phase table of the newest checkpoint that has a good commit; of a run without one, its first phase."""
    commit = newest_commit(run / "checkpoints")
    return tuple(Phase.from_json(values) for values in commit.state["phases"]) if commit else (first,)
