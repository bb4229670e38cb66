"""`tarmac sync`: sends W&B what it has not got yet of runs that were offline, or whose server did not answer.

Each session of a run leaves a piece: a folder of W&B's with the rows that no piece before it has. They are sent in
their order, under one id. Of pieces of which the server has a part, the rest is sent.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.corpus.remote.urls import shown
from pipeline.errors import RunError
from pipeline.stages.run_folder import read_config
from pipeline.stages.wandb_server import WandbServer
from pipeline.train.tracking.wandb import run_id
from pipeline.train.tracking.wandb_file import damage, num_rows, without_rows


@dataclass
class Piece:
    """What a session of a run left."""

    run: str
    file: Path
    """W&B's log of it."""
    rows: int
    arrived: int = 0
    """Rows that the server has already, the first ones; where nothing says that all were sent."""
    damage: int | None = None
    """The byte from which on the file is not what W&B wrote: what is behind it cannot be sent."""
    state: str = "was sent before"

    @property
    def marker(self) -> Path:
        """The file that says, to W&B as well, that all of it was sent."""
        return self.file.with_suffix(".wandb.synced")


def sync(runs: Sequence[str]) -> int:
    """Send what was not sent of some runs, and print a table; the exit status, 1 if something could not be sent.

    Raises:
        RunError: A folder is no run or the run trains now; there is no key; the server does not answer.
    """
    found: list[Piece] = []
    configs = {run: read_config(run).tracking.wandb for run in runs}
    server = WandbServer.from_environment()
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for run, settings in configs.items():
            with _alone(Path(run)):
                pieces = _pieces(run)
                rows = server.num_rows(settings.entity, settings.project, run_id(Path(run))) if pieces else 0
                task = progress.add_task(run, total=sum(piece.rows for piece in pieces))
                for piece in _sending(pieces, rows):
                    progress.advance(task, piece.rows)
            found += pieces
    _print(found)
    return int(not all(piece.marker.exists() for piece in found))


@contextmanager
def _alone(run: Path) -> Iterator[None]:
    """Keeps W&B's processes of the run out meanwhile. Raises RunError if there is one."""
    path = run / "wandb" / "relay.lock"
    if not path.exists():
        yield
        return
    with open(path, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"run {run} hands rows over to W&B right now; sync it when it has ended") from error
        except OSError:  # a file system without locks
            pass
        yield


def _pieces(run: str) -> list[Piece]:
    """A run's, oldest first: their names hold the time."""
    files = [path for path in Path(run).glob("wandb/*run-*/run-*.wandb") if not path.parent.is_symlink()]
    files.sort(key=lambda path: path.parent.name.removeprefix("offline-"))
    contents = map(Path.read_bytes, files)
    found = zip(files, contents, strict=True)
    return [Piece(run, file, num_rows(content), damage=damage(content)) for file, content in found]


def _sending(pieces: Sequence[Piece], arrived: int) -> Iterator[Piece]:
    """Send each that was not, of which so many rows of the run are at the server; nothing behind one that fails."""
    _share(pieces, arrived)
    has_failed = False
    for piece in pieces:
        if piece.marker.exists():
            pass
        elif has_failed:
            piece.state = "not sent, as one before it failed"
        else:
            _send(piece)
            has_failed = not piece.marker.exists()
        yield piece


def _share(pieces: Sequence[Piece], arrived: int) -> None:
    """Tell pieces how many of their rows arrived: those of online sessions first, as those sent by themselves."""
    partly = max(0, arrived - sum(piece.rows for piece in pieces if piece.marker.exists()))
    unsure = [piece for piece in pieces if not piece.marker.exists()]
    for piece in sorted(unsure, key=lambda piece: piece.file.parent.name.startswith("offline-")):
        piece.arrived = min(partly, piece.rows)
        partly -= piece.arrived


def _send(piece: Piece) -> None:
    """Send a piece without its first rows that the server has; of one that is there whole, what is not rows."""
    with tempfile.TemporaryDirectory(dir=piece.file.parent.parent) as temporary:
        folder = Path(temporary) / piece.file.parent.name
        folder.mkdir()
        (folder / "files").symlink_to(piece.file.parent.resolve() / "files")
        copy = folder / piece.file.name
        copy.write_bytes(without_rows(piece.file.read_bytes(), piece.arrived))
        words = _wandb_sync(folder)
        if copy.with_suffix(".wandb.synced").exists():
            piece.marker.touch()
            piece.state = f"sent{f' ({piece.arrived:,} rows were there)' if piece.arrived else ''}"
        else:
            piece.state = f"failed: {words}"


def _wandb_sync(folder: Path) -> str:
    """Have W&B send a folder; the last line that it says."""
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(folder.resolve())]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "WANDB_SILENT": "false"}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    return shown(lines[-1]) if lines else f"exit status {done.returncode}"


def _print(pieces: Sequence[Piece]) -> None:
    if not pieces:
        print("nothing to send: these runs have no rows of W&B's")
        return
    table = Table("run", "piece", "rows", "state")
    for piece in pieces:
        table.add_row(piece.run, piece.file.parent.name, f"{piece.rows:,}", piece.state)
    Console().print(table, highlight=False, markup=False)
    for piece in pieces:
        if piece.damage is not None:
            print(f"{piece.file} is damaged at byte {piece.damage:,}: what is behind it cannot be sent")
