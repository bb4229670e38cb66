"""What of a run's journal W&B is to tell people of at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.runtime.journal import Journal
from pipeline.runtime.signals import EXIT_INTERRUPTED, EXIT_REQUEUE


class Alert(NamedTuple):
    """A few words and a sentence."""

    title: str
    """At most 64 characters, as W&B wants it."""
    text: str
    level: str
    """INFO, WARN or ERROR."""


_ALERTS = {
    "spike": Alert("loss spike at step {step}", "the loss is {z:.1f} robust deviations above its median", "WARN"),
    "skipped": Alert("not finite at step {step}", "update skipped, {what} not finite; {in_a_row} in a row", "WARN"),
    "rollback": Alert("rollback to step {step}", "back from step {from_step}, past the data seen since", "WARN"),
    "save_failed": Alert("checkpoint not saved", "{reason}", "ERROR"),
    "corrupt": Alert("checkpoint damaged", "{name} is set aside: {reason}", "WARN"),
    "hang": Alert("stall", "{reason}", "ERROR"),
}
_END_TEXT = "step {step}: {reason}"
_ENDS = {0: Alert("done", _END_TEXT, "INFO"), EXIT_REQUEUE: Alert("requeue", _END_TEXT, "INFO"),
         EXIT_INTERRUPTED: Alert("stopped", _END_TEXT, "INFO")}  # fmt: skip
_FAILED = Alert("failed", _END_TEXT, "ERROR")
_ENDED = Alert("ended", _END_TEXT, "INFO")
"""Of a run whose journal is from before it told how runs end."""

ALERTING = (*_ALERTS, "end")
"""Events of the journal that make one."""


def alert_of(event: Mapping[str, Any]) -> Alert:
    """What is told of an event, one of `ALERTING`."""
    name = event["event"]
    form = _end(event) if name == "end" else _ALERTS[name]
    return Alert(form.title.format_map(event), form.text.format_map(event), form.level)


def _end(event: Mapping[str, Any]) -> Alert:
    return _ENDS.get(event["status"], _FAILED) if "status" in event else _ENDED


def farewell(run: Path) -> Alert | None:
    """What is told of training that is gone; None if the journal says how it ended."""
    turns = [event["event"] for event in Journal(run).read() if event["event"] in ("start", "resume", "end", "hang")]
    if not turns or turns[-1] in ("end", "hang"):
        return None
    return Alert("gone", "training ended without a word: killed, or by an error that its log tells", "ERROR")
