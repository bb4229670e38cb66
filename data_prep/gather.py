"""The phases before tokens: read, deduplicate over all sources, split."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.buckets import SplitSource
from data_prep.dedup.exact import DedupTask, Kept, find_duplicates, merge_kept
from data_prep.executor import Executor
from data_prep.plan import SourcePlan
from data_prep.read import ReadResult, ReadTask, read_documents
from data_prep.split import validation_threshold
from data_prep.statistics import require_documents, source_statistics
from pipeline.config.prep import PrepConfig


@dataclass(frozen=True)
class Gathered:
    """One source, ready to be tokenized."""

    plan: SourcePlan
    """Its inputs."""
    source: SplitSource
    """Its documents."""
    figures: dict[str, Any]
    """Its part of the corpus's statistics."""
    read_bytes: int
    """Bytes of text that were read."""


def gather(config: PrepConfig, plans: Sequence[SourcePlan], scratch: Path, executor: Executor) -> list[Gathered]:
    """Read every source, leaving documents in `scratch`. Raises CorpusError if one of them yields no document."""
    num_partitions = max(plan.num_buckets for plan in plans)
    tasks = [_read_tasks(config, plan, num_partitions, scratch) for plan in plans]
    results = executor.run("read", read_documents, [task for group in tasks for task in group])
    folders = tuple(task.folder for group in tasks for task in group)
    outputs = [scratch / "duplicates" / f"{number:06d}.npy" for number in range(num_partitions)]
    dedup_tasks = [DedupTask(number, folders, output) for number, output in enumerate(outputs)]
    kept = executor.run("dedup", find_duplicates, dedup_tasks)
    gathered, start = [], 0
    for plan, group in zip(plans, tasks, strict=True):
        mine = merge_kept([part[plan.number] for part in kept if plan.number in part])
        read = results[start : start + len(group)]
        start += len(group)
        read_folders = tuple(task.folder for task in group)
        gathered.append(_gathered(config, plan, read, mine, read_folders, tuple(outputs)))
    return gathered


def _read_tasks(config: PrepConfig, plan: SourcePlan, num_partitions: int, scratch: Path) -> list[ReadTask]:
    return [
        ReadTask(
            folder=scratch / "read" / plan.source.name / f"{number:06d}",
            source=plan.source,
            source_number=plan.number,
            files=files,
            cleaning=config.cleaning,
            seed=config.seed,
            num_buckets=plan.num_buckets,
            num_partitions=num_partitions,
        )
        for number, files in enumerate(plan.tasks)
    ]


def _gathered(
    config: PrepConfig,
    plan: SourcePlan,
    read: Sequence[ReadResult],
    kept: Kept,
    read_folders: tuple[Path, ...],
    duplicates: tuple[Path, ...],
) -> Gathered:
    figures = source_statistics(plan, read, kept)
    require_documents(plan.source.name, figures)
    threshold = validation_threshold(config.validation_share, kept)
    source = SplitSource(plan.source.name, plan.num_buckets, read_folders, duplicates, threshold)
    return Gathered(plan, source, figures, sum(result.text_bytes for result in read))
