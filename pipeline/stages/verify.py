"""Checking every checksum of a run or a corpus. Nothing is changed or set aside."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import MANIFEST_NAME
from pipeline.corpus.verification import file_fault, shard_fault, shard_files, stray_files
from pipeline.engine.checkpoint.commit import committed_steps, faults, newest_commit, read_commit, step_name, unlisted
from pipeline.errors import CheckpointError, RunError
from pipeline.runtime.threads import in_threads
from pipeline.stages.seal import seal_fault
from pipeline.tokenizer.load import tokenizer_fault

_DOING = "verifying"
_STRAY = "is not named by the manifest; `tarmac prep` with the corpus's config deletes what a killed one left"


def verify(folder: str | Path) -> int:
    """Check a run's checkpoints or a corpus's files and print a table; returns 1 if something is damaged.

    Raises:
        RunError: The folder is neither.
    """
    path = Path(folder)
    if (path / MANIFEST_NAME).is_file():
        results = _corpus_faults(path)
    elif (path / "checkpoints").is_dir():
        results = _run_faults(path)
    else:
        raise RunError(f"{folder} is neither a corpus ({MANIFEST_NAME}) nor a run (checkpoints/); give one of them")
    table = Table("What", "Verdict", title=str(folder))
    for name, fault in results:
        table.add_row(name, f"[red]{fault}" if fault else "good")
    Console().print(table)
    return int(any(fault for _, fault in results))


def _corpus_faults(folder: Path) -> list[tuple[str, str | None]]:
    corpus = Corpus(folder)
    tokenizer = tokenizer_fault(corpus.tokenizer_folder, corpus.manifest.tokenizer.fingerprint)
    files = shard_files(corpus)
    found = in_threads(lambda file: shard_fault(file.path, file.entry), files, _DOING)
    shards = [(str(file.path.relative_to(folder)), fault) for file, fault in zip(files, found, strict=True)]
    named = corpus.manifest.files
    wrong = in_threads(lambda name: file_fault(folder / name, named[name]), list(named), _DOING)
    others = zip(named, wrong, strict=True)
    strays = [(str(path.relative_to(folder)), _STRAY) for path in stray_files(corpus)]
    return [("tokenizer", tokenizer), *shards, *others, *strays]


def _run_faults(folder: Path) -> list[tuple[str, str | None]]:
    checkpoints = folder / "checkpoints"
    folders = [checkpoints / step_name(step) for step in committed_steps(checkpoints)]
    found = zip((folder.name for folder in folders), in_threads(_checkpoint_fault, folders, _DOING), strict=True)
    commit = newest_commit(checkpoints)
    fixed = [("config, model, tokenizer", seal_fault(folder, commit))] if commit else []
    return [*fixed, *found]


def _checkpoint_fault(folder: Path) -> str | None:
    try:
        commit = read_commit(folder)
        return "; ".join([*unlisted(folder, commit), *faults(folder, commit.files)]) or None
    except CheckpointError as error:
        return str(error)
