import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.runtime.files import read_json_lines
from pipeline.runtime.records import Records
from tests.unit.runtime.disk import full_at


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@given(st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(0, 90)), max_size=12), st.booleans())
def test_all_records_are_there_in_order_however_often_the_disk_is_full(
    tmp_path_factory: pytest.TempPathFactory, stretches: list[tuple[int, int | None]], synced: bool
) -> None:
    """Each stretch: how many records are appended, and how much room there is for them, if it is little."""
    path = tmp_path_factory.mktemp("records") / "folder" / "log"
    records, expected = Records(path, synced), []
    for number, room in stretches:
        with full_at((path.stat().st_size if path.exists() else 0) + (1 << 20 if room is None else room)):
            for _ in range(number):
                expected.append({"number": len(expected), "text": "é\n"})
                records.append(expected[-1])
        written = path.read_bytes() if path.exists() else b""
        assert written.endswith(b"\n") or not written
        assert [json.loads(line) for line in written.splitlines()] == expected[: written.count(b"\n")]
        assert room is not None or number == 0 or written.count(b"\n") == len(expected)
    records.close()
    assert read_json_lines(path) == expected


def test_it_says_when_a_fault_begins_and_ends_and_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = Records(tmp_path / "log", synced=True, max_waiting=5)
    records.append(0)
    with full_at(3):
        for number in range(1, 9):
            records.append(number)
    records.append(9)
    records.append(10)
    assert read_json_lines(tmp_path / "log") == [0, 5, 6, 7, 8, 9, 10]
    begin, end = warnings(caplog)
    assert "log cannot be written (File too large)" in begin
    assert "is written again; 4 records are lost" in end


def test_a_folder_that_is_no_folder_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "ledger").write_text("in the way")
    records = Records(tmp_path / "ledger" / "log", synced=False)
    records.append(1)
    records.append(2)
    (tmp_path / "ledger").unlink()
    records.append(3)
    records.close()
    assert read_json_lines(tmp_path / "ledger" / "log") == [1, 2, 3]
    assert len(warnings(caplog)) == 2


def test_after_a_fault_the_file_is_opened_anew(tmp_path: Path) -> None:
    """What is at its place by then may be another one: a disk that was mounted again."""
    records = Records(tmp_path / "log", synced=False)
    records.append(1)
    with full_at(1):
        records.append(2)
    (tmp_path / "log").rename(tmp_path / "old")
    records.append(3)
    records.close()
    assert read_json_lines(tmp_path / "log") == [2, 3]


def test_closing_tries_a_last_time_and_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    records = Records(tmp_path / "kept", synced=True)
    lost = Records(tmp_path / "lost", synced=True)
    with full_at(1):
        records.append(1)
        lost.append(1)
        lost.append(2)
        lost.close()
    records.close()
    assert read_json_lines(tmp_path / "kept") == [1]
    assert warnings(caplog)[-2].endswith("lost lacks 2 records at its end that could not be written")
    assert warnings(caplog)[-1].endswith("kept is written again; 0 records are lost")


BODY = """
import sys
from pathlib import Path
from pipeline.runtime.records import Records
records = Records(Path(sys.argv[1]), synced=False)
for number in range(10**9):
    records.append({"number": number, "digest": "0123456789abcdef"})
    print(number, flush=True)
"""


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.11])
def test_a_kill_takes_no_record(tmp_path: Path, seconds: float) -> None:
    """Not even of a file that is not synced: what was appended is in the kernel's hands."""
    command = [sys.executable, "-c", BODY, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = [process.stdout.readline()]
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        told += [line for line in process.stdout if line.endswith("\n")]
    records = Records(tmp_path / "log", synced=False)
    records.append("next")
    records.close()
    *numbers, last = read_json_lines(tmp_path / "log")
    assert last == "next"
    assert [row["number"] for row in numbers] == list(range(len(numbers)))
    assert len(numbers) >= len(told)
