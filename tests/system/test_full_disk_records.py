"""A disk that fills up while rows and ledger lines are written, and gets room again: nobody waits, nothing is lost.

Real small file systems, so these need root.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.runtime.files import read_json_lines
from pipeline.runtime.records import Records
from tests.faults.logging_runs import Logging, kept, logged
from tests.faults.runs import Job, ledger, losses, small_corpus_folder, write_recipe


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(disk: Path) -> Path:
    """Leave no room; the file that takes it."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return filler


@pytest.mark.parametrize("synced", [True, False])
def test_records_wait_for_room(small_disk: Path, synced: bool) -> None:
    records = Records(small_disk / "folder" / "log", synced)
    expected = [{"number": number} for number in range(3000)]
    for row in expected[:1000]:
        records.append(row)
    filler = fill(small_disk)
    for row in expected[1000:2000]:
        records.append(row)
    written = read_json_lines(small_disk / "folder" / "log")  # the last block of the file had some room
    assert 1000 <= len(written) < 2000
    assert written == expected[: len(written)]
    filler.unlink()
    for row in expected[2000:]:
        records.append(row)
    records.close()
    assert read_json_lines(small_disk / "folder" / "log") == expected


def test_records_wait_for_a_disk_to_be_writable(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    records = Records(small_disk / "folder" / "log", synced=True)
    records.append(1)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    records.append(2)
    records.close()
    assert read_json_lines(small_disk / "folder" / "log") == [1, 2]


def last_logged(log: Path) -> int:
    return max((int(step) for step in re.findall(r"step (\d+)  loss", log.read_text())), default=0)


def test_two_ranks_train_on_without_room(small_disk: Path, tmp_path: Path) -> None:
    """The run folder is on the small disk; corpus and logs are not."""
    corpus = small_corpus_folder(tmp_path)
    (small_disk / "run").mkdir()
    (tmp_path / "run").symlink_to(small_disk / "run")
    recipe = write_recipe(tmp_path / "run.yaml", corpus, duration={"steps": 200}, checkpoints={"every_steps": 1000})
    logs = [tmp_path / f"run.{rank}.log" for rank in (0, 1)]
    with Job(recipe) as job:
        job.wait_for_step(20)
        filler = fill(small_disk)
        begin = last_logged(logs[0])
        job.wait_until(lambda: last_logged(logs[0]) >= begin + 100)
        assert max(losses(job.run)) < begin + 100
        filler.unlink()
        job.done()
    steps = list(range(1, 201))
    assert sorted(losses(job.run)) == steps
    for rank in (0, 1):
        assert sorted(ledger(job.run, rank)) == steps
    for name, log in (("metrics.jsonl", logs[0]), ("rank-00000.jsonl", logs[0]), ("rank-00001.jsonl", logs[1])):
        assert log.read_text().count(f"{name} cannot be written (No space left on device)") == 1
        assert log.read_text().count(f"{name} is written again; 0 records are lost") == 1


def test_wandb_whose_file_has_no_room_gets_all_rows_in_another(small_disk: Path) -> None:
    """After a write that fails W&B writes no more and says nothing."""
    run = Logging(small_disk / "run", 1, 400, pause=0.06)
    run.helper("wandb-core")
    time.sleep(1)
    filler = fill(small_disk)
    time.sleep(17)  # it writes every 15 s
    filler.unlink()
    run.done()
    assert logged(run.run) == list(range(1, 401))
    assert set(kept(run.run)) == set(range(1, 401))
    assert len([line for line in run.warnings if "W&B" in line]) == 1
    assert "W&B did not write its own file to its end" in run.warnings[-1]
