"""Reading a run folder for its report. What is missing is left empty: a report may be asked for at any time."""

import json
from dataclasses import dataclass
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
    training: list[Row]
    """Rows of metrics.jsonl that stand, with `train/loss`."""
    validation: list[Row]
    """The same with `validation/loss`."""
    checkpoints: list[Checkpoint]
    sessions: list[Session]
    evaluations: list[Row]
    samples: list[Row]
    corpora: list[CorpusFacts]


def collect(run_folder: str | Path) -> RunReport:
    """Everything known about a run. Raises RunError if the folder is not a run."""
    folder = Path(run_folder)
    config = read_run(folder)
    rows = [row for row in read_json_lines(folder / "metrics.jsonl") if {"step", "time"} <= row.keys()]
    events = Journal(folder).read()
    return RunReport(
        name=folder.resolve().name,
        config=config,
        config_text=(folder / "config.yaml").read_text(encoding="utf-8"),
        environment=_environment(folder / "environment.json"),
        training=standing_rows(rows, events, "train/loss"),
        validation=standing_rows(rows, events, "validation/loss"),
        checkpoints=_checkpoints(events, folder / "checkpoints"),
        sessions=sessions(rows, events),
        evaluations=read_json_lines(folder / "evaluations.jsonl"),
        samples=read_json_lines(folder / "samples.jsonl"),
        corpora=_corpora(config),
    )


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
