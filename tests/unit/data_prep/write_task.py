"""A small task for the tests of tasks, and one that fails."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from data_prep.tasks.store import Done, complete, find_done, task_folder
from data_prep.tasks.task import Task
from pipeline.config.base import Config
from pipeline.corpus.manifest import ShardEntry


class Settings(Config):
    limit: int = 1
    name: str = "x"


DEFAULT = Settings()


@dataclass(frozen=True)
class Place:
    content: str
    path: str = field(default="", compare=False)


@dataclass(frozen=True)
class Written:
    """What a task of these tests returns."""

    sizes: dict[int, int]
    entry: ShardEntry | None
    big: int


@dataclass(frozen=True)
class WriteTask(Task):
    phase: ClassVar[str] = "write"
    result_type: ClassVar[Any] = Written

    settings: Settings = DEFAULT
    places: tuple[Place, ...] = (Place("first"), Place("second"))
    number: int = 0
    share: float = 0.5
    note: str | None = None
    where: str = field(default="here", compare=False)

    def run(self, work: Path, folder: Path) -> Written:
        for number, place in enumerate(self.places):
            path = folder / "deep" / f"{number}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text(place.content * 100)
        (folder / "empty").touch()
        entry = ShardEntry(name="a.tar", bytes=1, sha256="0", tokens=2, documents=3, text_bytes=4, chunks=5)
        return Written({10: 1, 9: 2}, entry if self.number else None, 2**127 + self.number)


@dataclass(frozen=True)
class OtherPhase(WriteTask):
    phase: ClassVar[str] = "other"


@dataclass(frozen=True)
class Failing(WriteTask):
    number: int = -1
    error: Any = field(default=None, compare=False)

    def run(self, work: Path, folder: Path) -> Written:
        (folder / "half").write_text("half")
        raise self.error


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def done_of(work: Path, task: Task) -> Done | None:
    return find_done(work, task, task_folder(task))


def finish(work: Path, task: Task) -> Done:
    complete(work, task, task_folder(task))
    done = done_of(work, task)
    assert done is not None
    return done
