"""`--rehash`: inputs whose bytes changed while their names, sizes and times did not."""

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.plan import SourcePlan, read_tasks
from data_prep.readers import hash_file
from data_prep.readers.files import InputFile
from data_prep.reading.inputs import contents_sha256
from data_prep.reading.task import ReadTask
from data_prep.tasks.runner import Runner
from data_prep.tasks.store import find_done, task_folder
from data_prep.tasks.task import Task
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.manifest import Manifest
from pipeline.errors import CorpusError
from pipeline.runtime.columns import counted

Hashes = Mapping[str, str | None]
"""Origin of a file -> its content hash."""


@dataclass(frozen=True)
class HashTask(Task):
    """The content hashes of some inputs."""

    phase: ClassVar[str] = "rehash"
    result_type: ClassVar[Any] = dict[str, str | None]

    files: tuple[InputFile, ...]
    """What to hash."""
    start: str
    """Tells this start from all others: what an earlier one found is not taken."""

    def run(self, work: Path, folder: Path) -> dict[str, str | None]:
        """Hash the files."""
        return {file.origin: hash_file(file) for file in self.files}


def forget_changed(
    config: PrepConfig,
    plans: Sequence[SourcePlan],
    runner: Runner,
    console: Console,
    manifest: Manifest | None,
    replace: bool,
) -> bool:
    """Forget the finished reading tasks whose inputs have other bytes than they read, so that they run again.

    Args:
        config: What is prepared.
        plans: The inputs.
        runner: Knows where finished tasks lie, and where to run.
        console: Where progress goes.
        manifest: That of the finished corpus, which holds a checksum of each source's inputs; they count even where
            no record of a task is left.
        replace: Whether that corpus may be replaced. If not, a changed input is an error: its bytes are gone.

    Returns:
        Whether there are such inputs.

    Raises:
        CorpusError: There are, and they may not be; or an input cannot be read.
    """
    tasks = [read_tasks(config, plan) for plan in plans]
    found = _hash(tasks, Runner(runner.work, runner.executor, console))  # its time is not that of preparing
    changed = [
        (task, origins)
        for group, hashes in zip(tasks, found, strict=True)
        for task, now in zip(group, hashes, strict=True)
        if (origins := _changed(task, now, runner))
    ]
    names = [origin for _, origins in changed for origin in origins]
    by_source = {plan.source.name: hashes for plan, hashes in zip(plans, found, strict=True)}
    names = names or [f"one of source {name}" for name in changed_sources(by_source, manifest)]
    if names and manifest and not replace:
        raise CorpusError(
            f"{counted(len(names), 'input')} with other bytes than the corpus was made from (such as {names[0]});"
            " give --replace too to make it anew"
        )
    for task, _ in changed:
        shutil.rmtree(runner.work / task_folder(task))
    return bool(names)


def _hash(tasks: Sequence[Sequence[ReadTask]], runner: Runner) -> list[list[Hashes]]:
    """The hashes of the inputs that each source's reading tasks have."""
    start = secrets.token_hex(8)
    groups = [[HashTask(task.files, start) for task in group] for group in tasks]
    left = runner.work / HashTask.phase
    shutil.rmtree(left, ignore_errors=True)
    done = iter(runner.run([task for group in groups for task in group]))
    shutil.rmtree(left)
    return [[next(done).result for _ in group] for group in groups]


def _changed(task: ReadTask, now: Hashes, runner: Runner) -> list[str]:
    """Origins of a task's files whose bytes are not those that it read; none if it is not finished."""
    done = find_done(runner.work, task, task_folder(task), without=(DOCUMENTS_NAME,))
    if done is None:
        return []
    return [origin for origin, content_hash in now.items() if content_hash != done.result.inputs[origin]]


def changed_sources(found: Mapping[str, Sequence[Hashes]], manifest: Manifest | None) -> list[str]:
    """Sources whose inputs are not those that a corpus was made from.

    Args:
        found: Source -> what its inputs hold now, in their order.
        manifest: The corpus's; it need not have all of the sources.
    """
    made = manifest.statistics["sources"] if manifest else {}
    return [
        name
        for name, hashes in found.items()
        if name in made and made[name]["inputs_sha256"] != contents_sha256(hashes)
    ]
