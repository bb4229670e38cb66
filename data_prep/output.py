"""The output folder: built beside its place as `<output>.partial`, and renamed when complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.corpus.manifest import MANIFEST_NAME, Manifest, read_manifest
from pipeline.errors import ConfigError
from pipeline.runtime.files import sync_folder
from pipeline.runtime.lock import RunLock


def finished_corpus(output: Path, config_sha256: str, inputs: dict[str, str]) -> Manifest | None:
    """The manifest of a corpus already there by the same config from the same inputs; None if there is nothing.

    Args:
        output: The corpus folder.
        config_sha256: Checksum of the config.
        inputs: Checksum of the inputs of each source.

    Raises:
        ConfigError: Something else is there.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / MANIFEST_NAME).is_file():
        raise ConfigError(f"output ({output}) exists and is not a corpus; choose another folder")
    manifest = read_manifest(output)
    if manifest.config_sha256 != config_sha256:
        raise ConfigError(
            f"output ({output}) holds a corpus made by another config; remove it or choose another folder"
        )
    made_from = {name: source["inputs_sha256"] for name, source in manifest.statistics["sources"].items()}
    if made_from != inputs:
        raise ConfigError(f"output ({output}) was made from other input files; remove it or choose another folder")
    return manifest


@contextmanager
def partial_folder(output: Path) -> Iterator[Path]:
    """An empty `<output>.partial`, renamed to `output` when the block ends without an error.

    What an interrupted job left there is deleted first.

    Raises:
        ConfigError: The folder cannot be made.
        RunError: Another job is writing it.
    """
    partial = output.with_name(f"{output.name}.partial")
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"output ({output}) cannot be made: {error.strerror}; choose another folder") from error
    with RunLock(partial) as lock:
        _empty(partial, keep=lock.path)
        yield partial
        _sync(partial)
        os.rename(partial, output)
        (output / lock.path.name).unlink()  # last: until then a second job finds the folder in use
        sync_folder(output.parent)


def _empty(folder: Path, keep: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != keep:
            entry.unlink()


def _sync(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        sync_folder(path)
