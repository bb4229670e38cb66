"""What `tarmac sync` sends of pieces that the server has in part; W&B is real, against a server of our own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.logging_runs import environment
from tests.faults.test_tracking import sync
from tests.faults.wandb_server import WandbServer
from tests.unit.stages.run_story import start_run

ID = "0123456789abcdef"
SESSION = f"""
import sys, wandb
run = wandb.init(project="p", id="{ID}", mode="offline", dir=sys.argv[1], settings=wandb.Settings(silent=True))
for step in range(int(sys.argv[2]), int(sys.argv[3])):
    run.log({{"step": step}})
run.finish()
"""


@pytest.fixture
def server() -> Iterator[WandbServer]:
    server = WandbServer()
    yield server
    server.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = start_run(tmp_path / "run", tmp_path / "corpus")
    (folder / "run_id").write_text(ID)
    return folder


def leave(run: Path, number: int, first: int, last: int, is_online: bool = False) -> Path:
    """The piece of a session that was killed before it was sent, or while it was."""
    subprocess.run([sys.executable, "-c", SESSION, str(run), str(first), str(last)], cwd=run, env=environment({}),
                   check=True)  # fmt: skip
    [made] = (path for path in run.glob("wandb/offline-run-*") if not path.name.startswith("offline-run-2000"))
    place = made.with_name(f"{'' if is_online else 'offline-'}run-20000101_00000{number}-{ID}")
    made.rename(place)
    return place / f"run-{ID}.wandb"


def test_rows_of_two_killed_sessions_are_not_sent_again(run: Path, server: WandbServer) -> None:
    leave(run, 1, 0, 100, is_online=True)
    leave(run, 2, 100, 180, is_online=True)
    server.lines[ID] = [{"_step": step, "step": step} for step in range(150)]
    sent = sync(run, **server.environment)
    assert sent.returncode == 0, sent.stderr
    assert [line["step"] for line in server.lines[ID]] == list(range(180))
    assert "sent (100 rows were there)" in sent.stdout
    assert "sent (50 rows were there)" in sent.stdout
    assert sync(run, **server.environment).stdout.count("was sent before") == 2


def test_what_arrived_is_an_online_sessions_before_it_is_an_older_offline_ones(run: Path, server: WandbServer) -> None:
    leave(run, 1, 0, 10)
    leave(run, 2, 10, 20, is_online=True)
    server.lines[ID] = [{"_step": step, "step": step} for step in range(10, 16)]
    sent = sync(run, **server.environment)
    assert sent.returncode == 0, sent.stderr
    assert sorted(line["step"] for line in server.lines[ID]) == list(range(20))


def test_of_a_damaged_piece_what_is_before_the_damage_is_sent(run: Path, server: WandbServer) -> None:
    file = leave(run, 1, 0, 100)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x80
    file.write_bytes(content)
    sent = sync(run, **server.environment)
    steps = [line["step"] for line in server.lines[ID]]
    assert steps == list(range(len(steps)))
    assert 0 < len(steps) < 100
    assert f"{file} is damaged at byte " in sent.stdout
