"""The corpus folder: what tasks left is linked into it, and it appears, or changes, in one step."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.build import Built, BuiltSource
from data_prep.corpus.places import beside
from data_prep.pairs import write_pairs
from data_prep.reading.losses import DROPPED_NAME, REJECTS_NAME
from data_prep.tasks.store import Done
from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, Split, read_manifest, write_manifest
from pipeline.errors import ConfigError
from pipeline.runtime.files import atomic_file, sync_folder, write_json


class CorpusFolder:
    """Puts a built corpus where it belongs."""

    def __init__(self, output: Path, work: Path) -> None:
        """Fill `output`, or what it is a link to, with what tasks left in `work`."""
        self._output, self._work = output.resolve(), work

    def create(self, built: Built, manifest: Manifest, figures: Mapping[str, Any], seed: int) -> dict[Split, int]:
        """Make the corpus beside its place, then rename it there; what was there before goes. Returns how many pairs.

        Raises:
            ConfigError: The folder cannot be made.
        """
        partial = beside(self._output, "partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(
                f"output ({self._output}) cannot be made: {error.strerror}; choose another folder"
            ) from error
        pairs = self._fill(partial, built, manifest, figures, seed)
        before = beside(self._output, "replaced")
        shutil.rmtree(before, ignore_errors=True)
        if self._output.exists():
            os.rename(self._output, before)
        os.rename(partial, self._output)
        sync_folder(self._output.parent)
        shutil.rmtree(before, ignore_errors=True)
        return pairs

    def append(self, built: Built, manifest: Manifest, figures: Mapping[str, Any], seed: int) -> dict[Split, int]:
        """Add what is new to a corpus; files that are there are not touched, and the manifest changes last."""
        made = read_manifest(self._output).statistics["sources"]
        for source in built.sources:
            if source.plan.source.name not in made:
                self._clear(source.plan.source.name)
        for path in self._output.rglob(".*.partial"):
            path.unlink()
        return self._fill(self._output, built, manifest, figures, seed)

    def _clear(self, source: str) -> None:
        """Delete what a killed start left of a source, perhaps with another config."""
        for split in SPLIT_FOLDERS.values():
            for folder in (self._output / split, self._output / "index" / split):
                shutil.rmtree(folder / source, ignore_errors=True)
        (self._output / "rejects" / f"{source}.jsonl").unlink(missing_ok=True)
        for path in (self._output / "dropped").glob(f"{source}-??????.jsonl.zst"):
            path.unlink()

    def _fill(
        self, folder: Path, built: Built, manifest: Manifest, figures: Mapping[str, Any], seed: int
    ) -> dict[Split, int]:
        for done in [built.tokenizer, *(done for one in built.sources for done in _shards(one))]:
            link_outputs(done, self._work, folder)
        for source in built.sources:
            self._write_losses(source, folder)
        found = [done.result for one in built.sources for done in one.pairs]
        pairs = write_pairs(folder / "pairs", found, seed) if found else {}
        for name, values in figures.items():
            write_json(folder / name, values)
        for path, _, _ in os.walk(folder):
            sync_folder(path)
        write_manifest(folder, manifest)
        return pairs

    def _write_losses(self, source: BuiltSource, folder: Path) -> None:
        """`rejects/<source>.jsonl` of all tasks, and each task's `dropped/<source>-<number>.jsonl.zst`."""
        names = {output.name for done in source.reads for output in done.outputs}
        if REJECTS_NAME in names:
            target = folder / "rejects" / f"{source.plan.source.name}.jsonl"
            target.parent.mkdir(exist_ok=True)
            with atomic_file(target) as file:
                for done in source.reads:
                    path = self._work / done.folder / REJECTS_NAME
                    if path.exists():
                        file.write(path.read_bytes())
        for number, done in enumerate(source.reads):
            path = self._work / done.folder / DROPPED_NAME
            if path.exists():
                target = folder / "dropped" / f"{source.plan.source.name}-{number:06d}.jsonl.zst"
                target.parent.mkdir(exist_ok=True)
                target.unlink(missing_ok=True)
                link(path, target)


def link_outputs(done: Done, work: Path, folder: Path) -> None:
    """Put a task's files into a corpus folder; those that are there stay as they are."""
    for output in done.outputs:
        target = folder / output.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link(work / done.folder / output.name, target)


def _shards(source: BuiltSource) -> list[Done]:
    return [done for group in source.shards.values() for done in group]


def link(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system cannot."""
    try:
        os.link(path, target)
    except OSError:
        with open(path, "rb") as source, atomic_file(target) as file:
            shutil.copyfileobj(source, file, 1 << 20)
