"""Logs of ranks, merged."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch.logs import merged
from launch.record import keep, keep_log
from pipeline.errors import RunError


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name.replace('_', '-')}.log").write_text(text)
    return folder / "job-7"


def test_entries_are_in_the_order_of_time_over_midnight_and_starts(tmp_path: Path) -> None:
    stem = write(
        tmp_path,
        job_7="slurmstepd: *** JOB 7 ON n1 CANCELLED AT 2026-02-01T00:00:03 DUE TO JOB REQUEUE ***\nsrun: forcing\n",
        job_7_0="2026-01-31 23:59:58 [rank 0] I one\n2026-02-01 00:00:02 [rank 0] I four\n"
        "2026-02-09 01:00:00 [rank 0] I again\n",
        job_7_1="2026-01-31 23:59:59 [rank 1] W two\nTraceback:\n  line\n[2026-02-01 00:00:01,5] [INFO] three\n",
        job_7_10="2026-02-01 00:00:02 [rank 10] W five\n",
        job_71_0="2026-01-01 00:00:00 another job's\n",
    )
    assert list(merged(str(stem))) == [
        "0: 2026-01-31 23:59:58 [rank 0] I one",
        "1: 2026-01-31 23:59:59 [rank 1] W two",
        "1: Traceback:",
        "1:   line",
        "1: [2026-02-01 00:00:01,5] [INFO] three",
        "0: 2026-02-01 00:00:02 [rank 0] I four",
        "10: 2026-02-01 00:00:02 [rank 10] W five",
        "job: slurmstepd: *** JOB 7 ON n1 CANCELLED AT 2026-02-01T00:00:03 DUE TO JOB REQUEUE ***",
        "job: srun: forcing",
        "0: 2026-02-09 01:00:00 [rank 0] I again",
    ]


def test_what_comes_before_the_first_stamp_stands_by_it(tmp_path: Path) -> None:
    stem = write(
        tmp_path, job_7_0="2026-01-01 00:00:00 I a\n2026-01-01 00:00:05 I c\n", job_7_1="x\ny\n2026-01-01 00:00:03 b"
    )
    assert list(merged(str(stem))) == ["0: 2026-01-01 00:00:00 I a", "1: x", "1: y", "1: 2026-01-01 00:00:03 b",
                                       "0: 2026-01-01 00:00:05 I c"]  # fmt: skip


def test_a_run_knows_the_logs_of_all_its_jobs(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for number, second in ((7, "05"), (8, "03")):
        keep(run, ["recipe.yaml"])
        keep_log(run, str(tmp_path / f"job-{number}"))
        write(tmp_path, **{f"job_{number}_0": f"2026-01-01 00:00:{second} I {number}\n"})
    assert list(merged(str(run))) == ["0: 2026-01-01 00:00:03 I 8", "0: 2026-01-01 00:00:05 I 7"]


@pytest.mark.parametrize("place", [".", "nothing-7"])
def test_without_logs_it_is_one_sentence(place: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no logs of a SLURM job; give a run that SLURM ran, or DIR/NAME-JOB"):
        merged(str(tmp_path / place))


def test_more_files_than_a_process_may_open(tmp_path: Path) -> None:
    line = f"2026-01-01 00:00:{{:02}} {'é' * 500}\n"
    files = {f"job_7_{rank}": "".join(line.format(second) for second in range(60)) for rank in range(60)}
    stem = write(tmp_path, **files)
    command = f"ulimit -n 40; {sys.executable} -m pipeline.cli logs {stem}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert result.stderr == ""
    expected = [f"{rank}: {line.format(second).strip()}" for second in range(60) for rank in range(60)]
    assert result.stdout.splitlines() == expected


def test_who_has_read_enough_may_go(tmp_path: Path) -> None:
    stem = write(tmp_path, job_7_0="2026-01-01 00:00:00 [rank 0] I again and again\n" * 10_000)
    command = f"{sys.executable} -m pipeline.cli logs {stem} | head -1; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (result.returncode, result.stdout.count("\n"), result.stderr) == (141, 1, "")
