"""`tarmac checkpoints`: what is in a run's `checkpoints` folder, and what each of it is. Nothing is changed."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipeline.config.checkpoints import Checkpoints
from pipeline.engine.checkpoint.commit import Commit, committed_steps, read_commit, step_name, unlisted
from pipeline.engine.checkpoint.retention import kept
from pipeline.errors import CheckpointError
from pipeline.runtime.columns import counted, print_columns
from pipeline.runtime.files import read_json_lines
from pipeline.runtime.threads import in_threads
from pipeline.stages.run_folder import read_config
from pipeline.stages.verify import checkpoint_fault

_REASON = "REASON.txt"
_LEFT_OVER = {
    r"\.(old|replaced)\.partial": "is being deleted, or was when the run was killed; the next save deletes it",
    r"\.partial": "is being written, or was when the run was killed; the next save deletes it",
    r"\.abandoned-\d+(-\d+)?": "is of a branch that a rollback left; it is never read, delete it when you like",
}


@dataclass(frozen=True)
class Listed:
    """A checkpoint under its final name."""

    step: int
    branch: int | None
    """How often the run was rolled back before; None, like what follows, where the commit cannot be read."""
    bytes: int
    time: float | None
    """When it was written, in seconds since 1970."""
    world_size: int | None
    made_by: dict[str, Any]
    """ZeRO stage, precision and host."""
    kept: tuple[str, ...]
    """By which rules it stays: last, every, best; by none: the next save deletes it."""
    fault: str | None
    """What is wrong with it."""


@dataclass(frozen=True)
class LeftOver:
    """A folder beside the checkpoints that is none."""

    name: str
    bytes: int
    what: str


def list_checkpoints(run: str | Path, as_json: bool = False, verify: bool = False) -> int:
    """Print a run's checkpoints for people, or as a JSON object; returns 1 if one is not whole.

    Args:
        run: The run folder.
        as_json: For programs.
        verify: Compare every byte with its checksum; else that the commit is whole and each file has its size.

    Raises:
        RunError: The folder is not a run.
    """
    checkpoints = Path(run) / "checkpoints"
    listed = _listed(Path(run), read_config(run).checkpoints, verify)
    others = left_over(checkpoints)
    if as_json:
        rows = {"checkpoints": [asdict(one) for one in listed], "others": [asdict(one) for one in others]}
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        _print(checkpoints, listed, others, "good" if verify else "whole")
    return int(any(one.fault for one in listed))


def left_over(checkpoints: Path) -> list[LeftOver]:
    """Folders of steps under other names than a checkpoint's: unfinished, damaged, abandoned."""
    found = []
    for path in sorted(checkpoints.glob("step-*.*")):
        suffix = path.name.partition(".")[2]
        what = next((what for pattern, what in _LEFT_OVER.items() if re.fullmatch(pattern, f".{suffix}")), None)
        found.append(LeftOver(path.name, _num_bytes(path), what or _why_set_aside(path)))
    return found


def reasons(steps: list[int], settings: Checkpoints, measured: Mapping[int, float]) -> dict[int, tuple[str, ...]]:
    """By which of its rules retention keeps each step; the newest stays whatever they say."""
    none = {"keep_last": 1, "keep_every_steps": None, "keep_best": 0}
    rules = {"last": "keep_last", "every": "keep_every_steps", "best": "keep_best"}
    found: dict[int, tuple[str, ...]] = dict.fromkeys(steps, ())
    for name, key in rules.items():
        alone = settings.model_copy(update=none | {key: getattr(settings, key)})
        for step in kept(steps, alone, measured) - (set(steps[-1:]) if name != "last" else set()):
            found[step] += (name,)
    return found


def _listed(run: Path, settings: Checkpoints, verify: bool) -> list[Listed]:
    steps = committed_steps(run / "checkpoints")
    folders = [run / "checkpoints" / step_name(step) for step in steps]
    if verify:
        found = in_threads(checkpoint_fault, folders, "verifying", Console(stderr=True))
    else:
        found = [_fault_at_sight(folder) for folder in folders]
    why = reasons(steps, settings, _measured(run, settings.best_metric))
    return [
        _describe(folder, step, why[step], fault)
        for folder, step, fault in zip(folders, steps, found, strict=True)
        if folder.is_dir()  # a run that is going on may have deleted it meanwhile
    ]


def _describe(folder: Path, step: int, why: tuple[str, ...], fault: str | None) -> Listed:
    try:
        commit = read_commit(folder)
    except CheckpointError:
        return Listed(step, None, _num_bytes(folder), None, None, {}, why, fault)
    made_by = dict(commit.made_by)
    return Listed(step, commit.branch, commit.bytes, made_by.pop("time", None), commit.world_size, made_by, why, fault)


def _fault_at_sight(folder: Path) -> str | None:
    """What is wrong with a checkpoint as far as its commit and the sizes of its files tell."""
    try:
        commit = read_commit(folder)
        return "; ".join([*unlisted(folder, commit), *_wrong_sizes(folder, commit)]) or None
    except CheckpointError as error:
        return str(error)


def _wrong_sizes(folder: Path, commit: Commit) -> list[str]:
    sizes = {file.name: _num_bytes(folder / file.name) for file in commit.files}
    return [
        f"{file.name} has {sizes[file.name]} bytes, should have {file.bytes}"
        for file in commit.files
        if sizes[file.name] != file.bytes
    ]


def _num_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder; what is not there has none."""
    try:
        return path.stat().st_size if path.is_file() else sum(map(_num_bytes, path.iterdir()))
    except OSError:
        return 0


def _why_set_aside(path: Path) -> str:
    try:
        return f"was set aside: {(path / _REASON).read_text(encoding='utf-8').strip()}"
    except OSError:
        return f"has no {_REASON}; it is never read"


def _measured(run: Path, metric: str) -> dict[int, float]:
    rows = read_json_lines(run / "metrics.jsonl")
    return {row["step"]: row[metric] for row in rows if row.get(metric) is not None}


def _print(checkpoints: Path, listed: list[Listed], others: list[LeftOver], good: str) -> None:
    console = Console(highlight=False, markup=False)
    title = f"{checkpoints}: {counted(len(listed), 'checkpoint')}, {sum(one.bytes for one in listed) / 1e6:,.1f} MB"
    heads = ("step", "branch", "MB", "written", "made by", "kept as", "verdict")
    print_columns(console, title, heads, [_cells(one, good) for one in listed])
    for one in listed:
        if one.fault:
            console.print(f"{step_name(one.step)} is damaged: {one.fault}", soft_wrap=True)
    for other in others:
        console.print(f"{other.name} ({other.bytes / 1e6:,.1f} MB) {other.what}", soft_wrap=True)


def _cells(one: Listed, good: str) -> tuple[str, ...]:
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.time)) if one.time else "?"
    maker = [counted(one.world_size, "rank")] if one.world_size else ["?"]
    maker += [f"ZeRO-{one.made_by['zero_stage']}"] if "zero_stage" in one.made_by else []
    maker += [str(one.made_by[key]) for key in ("precision", "host") if key in one.made_by]
    branch = "?" if one.branch is None else str(one.branch)
    why, verdict = ", ".join(one.kept) or "nothing", "damaged" if one.fault else good
    return f"{one.step:,}", branch, f"{one.bytes / 1e6:,.1f}", written, " ".join(maker), why, verdict
