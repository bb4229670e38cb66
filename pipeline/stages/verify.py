"""Checking every checksum of a run, a corpus or an export. Nothing is changed or set aside."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open

from pipeline.config.data import CorpusCache
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.manifest import MANIFEST_NAME, parse_manifest
from pipeline.corpus.remote.origin import Origin
from pipeline.corpus.remote.urls import is_url, local_path, shown
from pipeline.corpus.verification import file_fault, named_files, shard_fault, shard_files, stray_files
from pipeline.engine.checkpoint.commit import (
    COMMIT_NAME,
    Commit,
    all_faults,
    committed_steps,
    newest_commit,
    read_commit,
    step_name,
)
from pipeline.engine.checkpoint.index import INDEX_NAME, read_index, require_whole
from pipeline.errors import CheckpointError, CorpusError, RunError
from pipeline.runtime.threads import in_threads
from pipeline.stages.export_sums import SUMS_NAME, sum_faults
from pipeline.stages.seal import seal_fault
from pipeline.tokenizer.load import tokenizer_fault

_DOING = "verifying"
_STRAY = "is not named by the manifest; `tarmac prep` with the corpus's config deletes what a killed one left"


def verify(folder: str | Path) -> int:
    """Check a run's checkpoints, a corpus's files or an export's and print a table; 1 if something is damaged.

    A corpus may be at a URL. Its files are streamed then; indexes and strays are left out, as nobody reads them there.

    Raises:
        RunError: The folder is none of them.
        CorpusError: There is no corpus at the URL, or its manifest is damaged.
    """
    path = Path(local_path(str(folder)))
    if is_url(str(folder)):
        results = _remote_faults(str(folder))
    elif (path / MANIFEST_NAME).is_file():
        results = _corpus_faults(path)
    elif (path / "checkpoints").is_dir():
        results = _run_faults(path)
    elif (path / SUMS_NAME).is_file():
        results = sum_faults(path)
    else:
        raise RunError(
            f"{folder} is neither a corpus ({MANIFEST_NAME}) nor a run (checkpoints/) nor an export ({SUMS_NAME});"
            " give one of them"
        )
    table = Table("What", "Verdict", title=shown(str(folder)))
    for name, fault in results:
        table.add_row(name, f"[red]{fault}" if fault else "good")
    Console().print(table)
    return int(any(fault for _, fault in results))


def _remote_faults(url: str) -> list[tuple[str, str | None]]:
    origin = Origin(url, CorpusCache())
    manifest = parse_manifest(origin.manifest(), origin.store.shown(MANIFEST_NAME))
    try:
        origin.tokenizer(manifest.tokenizer.fingerprint)
        tokenizer = None
    except CorpusError as error:
        tokenizer = str(error)
    named = named_files(manifest)
    found = in_threads(lambda item: origin.fault(*item), list(named.items()), _DOING)
    return [("tokenizer", tokenizer), *zip(named, found, strict=True)]


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
    faults = in_threads(checkpoint_fault, folders, _DOING)
    here = [folder.is_dir() for folder in folders]  # a run that goes on may have deleted one meanwhile
    found = [(one.name, fault) for one, fault, is_here in zip(folders, faults, here, strict=True) if is_here]
    commit = newest_commit(checkpoints)
    fixed = [("config, model, tokenizer", seal_fault(folder, commit))] if commit else []
    return [*fixed, *found]


def checkpoint_fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words, every byte of it compared; None if it is whole."""
    try:
        commit = read_commit(folder)
        found = all_faults(folder, commit)
        if not found:
            _require_index(folder, commit)
        return "; ".join(found) or None
    except CheckpointError as error:
        return str(error)


def _require_index(folder: Path, commit: Commit) -> None:
    """Raise CheckpointError unless the index finds every tensor whole, in files of the commit, whose bytes are right.

    That they come together to what was saved is compared by their checksums when they are loaded.
    """
    lengths = {file.name: _lengths(folder / file.name) for file in commit.files if file.name != INDEX_NAME}
    for key, tensor in read_index(folder).tensors.items():
        for piece in tensor.pieces:
            if piece.file not in lengths:
                raise CheckpointError(f"{INDEX_NAME} has {key} in {piece.file}, which {COMMIT_NAME} does not list")
            if lengths[piece.file].get(key) != piece.length:
                raise CheckpointError(f"{piece.file} does not hold the {piece.length} elements of {key} that it should")
        require_whole(key, tensor.shape, [(piece.start, piece.length, piece.columns) for piece in tensor.pieces])


def _lengths(path: Path) -> dict[str, int]:
    """Number of elements of each tensor in a file. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()
            return {key: math.prod(file.get_slice(key).get_shape()) for key in keys}
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is no file of tensors ({error})") from error
