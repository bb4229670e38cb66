"""What Weights & Biases gets of a run: rows, samples, artifacts and alerts, each of a line in a file of the run."""

from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

import wandb

from pipeline.runtime.files import write_json
from pipeline.train.tracking import artifacts
from pipeline.train.tracking.alerts import ALERTING, Alert, alert_of, farewell
from pipeline.train.tracking.following import Following, Row, Stream, mark_path

_COLUMNS = ("step", "prompt", "continuation", "temperature")
_DONE_AGAIN = ("spike", "skipped", "phase")
"""Events that a resumed run tells again when it does their step again."""
_MAKING = ("phase", "save", "upload", "rollback")
"""Events of which there is an artifact."""


def _event_key(event: Row) -> tuple[str, float] | None:
    name = event.get("event", "")
    if name not in (*ALERTING, *_MAKING):
        return None
    return name, event["step"] if name in _DONE_AGAIN else event["time"]


SAMPLES = Stream("samples.jsonl", "handed_over_samples.json", lambda row: (row["prompt"], row["step"]))
EVENTS = Stream("journal.jsonl", "handed_over_events.json", _event_key)


def mark_events(folder: Path) -> None:
    """Note at the first session that no event was handed over; that all were if rows were, by a version without events.

    Raises:
        OSError: The mark could not be written.
    """
    mark, journal = mark_path(folder, EVENTS), folder / EVENTS.name
    if not mark.exists():
        is_older = mark_path(folder).exists() and journal.exists()
        write_json(mark, {"bytes": journal.stat().st_size if is_older else 0})


class Handover:
    """Hands over what is new in the files of a run; where it stands is on disk, so that each line goes once."""

    def __init__(self, run: Any, folder: Path, config: dict[str, Any]) -> None:
        """Go on where an earlier session of the run ended.

        Args:
            run: W&B's.
            folder: The run folder.
            config: The run's.
        """
        self._run, self.folder, self._config = run, folder, config
        with suppress(OSError):  # no room: some events will be told again
            mark_events(folder)
        self._rows, self._samples, self._events = (
            Following(folder, self._written_bytes, *stream) for stream in ((), (SAMPLES,), (EVENTS,))
        )
        before = self._rows.handed_over + self._samples.handed_over
        self._first: int | None = before if before > run.step else None

    def go_on(self) -> None:
        """Hand over what came since."""
        for row in self._rows.new():
            self._log(row, {key: value for key, value in row.items() if key != "time" and value is not None})
        for step, group in groupby(self._samples.new(), key=lambda row: row["step"]):
            rows = list(group)
            table = wandb.Table(list(_COLUMNS), [[row[name] for name in _COLUMNS] for row in rows])
            self._log(rows[0], {"step": step, "samples": table})
        for event in self._events.new():
            self._tell(event)

    def _log(self, row: Row, values: dict[str, Any]) -> None:
        """W&B counts rows in `_step`. Offline it begins each session at 0, so that we say where it goes on."""
        place = {} if self._first is None else {"step": self._first, "commit": True}
        self._run.log({**values, "_timestamp": row["time"]}, **place)
        self._first = None

    def _tell(self, event: Row) -> None:
        name = event["event"]
        if name in ALERTING:
            self._alert(alert_of(event))
        if name == "phase" and (event["step"] == 0 or {"sources", "shards"} & event["changed"].keys()):
            for artifact in artifacts.corpora(self._config, event["phase"]):
                self._run.log_artifact(artifact)
        if name in ("save", "upload", "rollback"):
            self._announce(name, event)

    def _announce(self, name: str, event: Row) -> None:
        """A checkpoint; `latest` is the one that the run stands on, after a rollback the one that it went back to."""
        step = event["step"]
        if name == "upload":
            artifact = artifacts.copy_of_checkpoint(
                self.folder, self._run.id, step, self._config["checkpoints"]["upload"]
            )
        else:
            artifact = artifacts.checkpoint(
                self.folder, self._run.id, step, event["branch"] if name == "save" else None
            )
        if artifact is not None:
            self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])

    def take_leave(self) -> None:
        """Training is gone: say so if it did not."""
        alert = farewell(self.folder)
        if alert is not None:
            self._alert(alert)

    def _alert(self, alert: Alert) -> None:
        self._run.alert(alert.title, alert.text, alert.level)

    def remember(self) -> None:
        """Note what W&B surely has. Raises as `Following.remember` does."""
        for one in (self._rows, self._samples, self._events):
            one.remember()

    def close(self) -> None:
        """Note all, once W&B has closed its file. Raises as `Following.close` does."""
        for one in (self._rows, self._samples, self._events):
            one.close()

    def _written_bytes(self) -> int:
        """Length of the file that W&B keeps all it gets in, online too."""
        return sum(path.stat().st_size for path in Path(self._run.dir).parent.glob("*.wandb"))
