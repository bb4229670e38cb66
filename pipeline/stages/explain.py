"""Which documents a step is made of: computed from the phase table, without logs."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from pipeline.config.run import RunConfig
from pipeline.data.conversations import Conversations
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cuts
from pipeline.data.order import Order, Sample
from pipeline.data.phases import Phase
from pipeline.engine.checkpoint.commit import newest_commit
from pipeline.errors import RunError
from pipeline.stages.data_plan import continued, planned
from pipeline.stages.ingredients import open_data
from pipeline.stages.run_folder import read_run


def explain(run: str | Path, step: int) -> None:
    """Print the documents of each sample of a step (counted from 1). Raises RunError if the step is not of this run."""
    config = read_run(run)
    if not 1 <= step <= config.num_steps:
        raise RunError(f"--step ({step}) must be in [1, {config.num_steps}], the steps of run {run}")
    documents_column = Column("Documents", overflow="fold")
    table = Table("Sample", "Source", "Epoch", "Shard", "Sequence", documents_column, title=f"{run}, step {step}")
    for sample, documents in step_documents(config, Path(run), step):
        at = sample.at
        table.add_row(str(sample.number), at.source, str(at.epoch), str(at.shard), str(sample.sequence),
                      ", ".join(documents))  # fmt: skip
    Console().print(table)


def step_documents(config: RunConfig, run: Path, step: int) -> list[tuple[Sample, list[str]]]:
    """The samples of a step with the documents each reads, by origin and position; of a conversation file and line."""
    source = open_data(config).source
    order = run_order(config, run, source)
    samples = order.batch(step - 1)
    if isinstance(source, Conversations):
        return [(sample, [source.places[sample.sequence]]) for sample in samples]
    assert isinstance(source, Corpora)
    return [(sample, _documents(source, order.cuts, sample)) for sample in samples]


def _documents(source: Corpora, cuts: Cuts, sample: Sample) -> list[str]:
    starts, stops, _ = cuts.pieces(sample.at).of(np.array([sample.sequence]))
    spans = source.shards[sample.at.source].spans(sample.at.shard)
    read = [
        span.record
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
        for span in spans
        if span.start < stop and span.stop > start
    ]
    return [f"{record.origin}#{record.position}" for record in read]


def run_order(config: RunConfig, run: Path, source: Corpora | Conversations) -> Order:
    """The order of a run: by the phase table of its newest good checkpoint, or from the beginning."""
    cuts = Cuts(source.shards, config.seed)
    commit = newest_commit(run / "checkpoints")
    if commit is None:
        first, changes = planned(config, source)
        return Order(cuts, config.seed, [first], changes)
    table = [Phase.from_json(values) for values in commit.state["phases"]]
    return Order(cuts, config.seed, table, continued(config, source, table, commit.step))
