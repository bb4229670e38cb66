"""Inputs by their content: what a corpus was made from, and what decided what filters did, in one checksum each."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_prep.filters import filter_inputs
from pipeline.config.prep.filters import Filter
from pipeline.errors import ConfigError, CorpusError


def contents_sha256(inputs: Iterable[Mapping[str, str | None]]) -> str:
    """Checksum over names and content hashes of a source's inputs.

    Args:
        inputs: For each group of inputs, in their order: origin of a file -> content hash, None if it has none.
    """
    digest = hashlib.sha256()
    for group in inputs:
        for origin, checksum in group.items():
            digest.update(f"{origin}\x1f{checksum}\n".encode())
    return digest.hexdigest()


def checksum(paths: Sequence[str]) -> str:
    """Over the contents of some files."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def require_planned_inputs(source: str, filters: Sequence[Filter], planned: str) -> None:
    """Raises CorpusError if the files that a source's filters read are not those of which `planned` is the checksum."""
    try:
        paths = filter_inputs(filters)
        if checksum(paths) == planned:
            return
        told = f"files that its filters read ({', '.join(paths)}) are not what they were when the work was planned"
    except (OSError, ConfigError) as error:
        told = f"a file that its filters read is not there for a worker in {Path.cwd()} ({error})"
    raise CorpusError(
        f"source {source!r}: {told}; let them lie until the job is done, give absolute paths if workers are on other"
        " machines, then give the same command"
    )
