"""What people are told of a run's events."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.runtime.journal import Journal
from pipeline.train.tracking.alerts import alert_of, farewell


@pytest.mark.parametrize(
    ("event", "title", "level"),
    [
        ({"event": "spike", "step": 7, "z": 9.21}, "loss spike at step 7", "WARN"),
        ({"event": "skipped", "step": 7, "what": "the gradient is", "in_a_row": 2}, "not finite at step 7", "WARN"),
        ({"event": "rollback", "step": 4, "from_step": 9}, "rollback to step 4", "WARN"),
        ({"event": "hang", "reason": "hang: rank 0"}, "stall", "ERROR"),
        ({"event": "end", "step": 9, "reason": "complete", "status": 0}, "done", "INFO"),
        ({"event": "end", "step": 9, "reason": "complete"}, "ended", "INFO"),
        ({"event": "end", "step": 9, "reason": "SIGUSR1", "status": 85}, "requeue", "INFO"),
        ({"event": "end", "step": 9, "reason": "tarmac stop", "status": 130}, "stopped", "INFO"),
        ({"event": "end", "step": 9, "reason": "6 updates in a row", "status": 1}, "failed", "ERROR"),
    ],
)
def test_an_event_has_a_title_and_a_level(event: dict[str, Any], title: str, level: str) -> None:
    alert = alert_of(event)
    assert (alert.title, alert.level) == (title, level)
    assert len(alert.title) < 64
    assert alert.text


def test_training_that_is_gone_is_told_of_where_it_did_not_say_so_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert farewell(tmp_path) is None
    journal.write("start", step=0)
    assert farewell(tmp_path) == ("gone", *farewell(tmp_path)[1:])
    journal.write("hang", reason="rank 0")
    assert farewell(tmp_path) is None
    journal.write("resume", step=0)
    journal.write("save", step=2)
    assert farewell(tmp_path) is not None
    journal.write("end", step=2, reason="complete", status=0)
    assert farewell(tmp_path) is None
