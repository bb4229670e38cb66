"""Reading a run folder for its report. What is missing is left empty: a report may be asked for at any time."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config.data import CorpusCache, CorpusData
from pipeline.config.run import RunConfig
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.manifest import Manifest
from pipeline.errors import TarmacError
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.journal import Journal
from pipeline.stages.report.history import Row, Session, sessions, standing_rows
from pipeline.stages.run_folder import read_run


@dataclass(frozen=True)
class CorpusFacts:
    """One corpus the run reads."""

    folder: str
    """As the config names it."""
    manifest: Manifest | None
    """What it holds; None if it could not be read."""
    fault: str = ""
    """Why it could not be read."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint that was saved."""

    step: int
    time: float
    bytes: int
    seconds: float
    state: str
    """`kept`, `removed` or `corrupt`."""


@dataclass(frozen=True)
class RunReport:
    """All that the page shows."""

    name: str
    config: RunConfig
    config_text: str
    environment: dict[str, Any]
    rows: list[Row]
    """All rows of metrics.jsonl."""
    events: list[Row]
    """All of journal.jsonl."""
    rank_rows: list[Row]
    """All of ranks.jsonl."""
    checkpoints: list[Checkpoint]
    evaluations: list[Row]
    samples: list[Row]
    corpora: list[CorpusFacts]
    anchor: str = ""
    """What the ids of its sections begin with, where a page is about several runs."""

    @cached_property
    def training(self) -> list[Row]:
        """Rows that stand, with `train/loss`."""
        return self.standing("train/loss")

    @cached_property
    def validation(self) -> list[Row]:
        """The same with `validation/loss`."""
        return self.standing("validation/loss")

    @cached_property
    def sessions(self) -> list[Session]:
        """Starts of the job, oldest first."""
        return sessions(self.rows, self.events)

    def standing(self, key: str) -> list[Row]:
        """Rows that stand, with a key."""
        return standing_rows(self.rows, self.events, key)

    def happened(self, event: str) -> list[Row]:
        """The events of a kind."""
        return [one for one in self.events if one["event"] == event]


def collect_all(folders: Sequence[str | Path]) -> list[RunReport]:
    """The same of several runs; those whose folders have one name are named by their paths. Raises RunError."""
    if len(folders) == 1:
        return [collect(folders[0])]
    reports = [collect(folder, f"run-{number}-") for number, folder in enumerate(folders)]
    names = Counter(report.name for report in reports)
    return [
        replace(report, name=str(folder)) if names[report.name] > 1 else report
        for report, folder in zip(reports, folders, strict=True)
    ]


def collect(run_folder: str | Path, anchor: str = "", corpora: list[CorpusFacts] | None = None) -> RunReport:
    """Everything known about a run.

    Args:
        run_folder: The run's.
        anchor: What the ids of its sections begin with.
        corpora: What it reads, if that was looked at before.

    Raises:
        RunError: The folder is not a run.
    """
    folder = Path(run_folder)
    config = read_run(folder)
    events = Journal(folder).read()
    return RunReport(
        name=folder.resolve().name,
        config=config,
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        environment=_environment(folder / "environment.json"),
        rows=_rows(folder / "metrics.jsonl"),
        events=events,
        rank_rows=_rows(folder / "ranks.jsonl"),
        checkpoints=_checkpoints(events, folder / "checkpoints"),
        evaluations=read_json_lines(folder / "evaluations.jsonl"),
        samples=read_json_lines(folder / "samples.jsonl"),
        corpora=_corpora(config) if corpora is None else corpora,
        anchor=anchor,
    )


def _rows(path: Path) -> list[Row]:
    return [row for row in read_json_lines(path) if {"step", "time"} <= row.keys()]


def _environment(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _checkpoints(events: list[Row], folder: Path) -> list[Checkpoint]:
    """Saves, one per step: a step saved again after a resume replaced the first."""
    saves = {event["step"]: event for event in events if event["event"] == "save"}
    return [
        Checkpoint(step, event["time"], event["bytes"], event["seconds"], _state(folder / f"step-{step:08d}"))
        for step, event in sorted(saves.items())
    ]


def _state(path: Path) -> str:
    if path.is_dir():
        return "kept"
    return "corrupt" if path.with_name(f"{path.name}.corrupt").is_dir() else "removed"


def _corpora(config: RunConfig) -> list[CorpusFacts]:
    if not isinstance(config.data, CorpusData):
        return []
    places = dict.fromkeys(source.corpus for source in config.data.sources)
    return [_corpus(place, config.data.cache) for place in places]


def _corpus(place: str, cache: CorpusCache) -> CorpusFacts:
    try:
        return CorpusFacts(place, open_corpus(place, cache).manifest)
    except TarmacError as error:
        return CorpusFacts(place, None, str(error))
