"""The corpus folder: what tasks left is linked into it, and it appears, or changes, in one step."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.built import Built, BuiltSource
from data_prep.corpus.losses import link, write_losses
from data_prep.corpus.places import beside
from data_prep.corpus.tidy import tidy
from data_prep.pairs import write_pairs
from data_prep.tasks.store import Done
from pipeline.corpus.manifest import PREP_NAME, FileEntry, Manifest, Split, read_manifest, write_manifest
from pipeline.corpus.verification import NEXT_NAME, file_entry
from pipeline.errors import ConfigError
from pipeline.runtime.files import sync_folder, write_json


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
        pairs = self._fill(partial, partial, {}, built, manifest, figures, seed)
        before = beside(self._output, "replaced")
        shutil.rmtree(before, ignore_errors=True)
        if self._output.exists():
            os.rename(self._output, before)
        os.rename(partial, self._output)
        sync_folder(self._output.parent)
        shutil.rmtree(before, ignore_errors=True)
        return pairs

    def append(self, built: Built, manifest: Manifest, figures: Mapping[str, Any], seed: int) -> dict[Split, int]:
        """Add what is new to a corpus; what is there of its sources is not touched.

        Figures and pairs, which are of all sources, wait until the manifest is there (`tidy`): a killed append has
        changed nothing that the old manifest names.
        """
        tidy(self._output)
        waiting, there = self._output / NEXT_NAME, read_manifest(self._output).files
        waiting.mkdir()
        pairs = self._fill(self._output, waiting, there, built, manifest, figures, seed)
        tidy(self._output)
        return pairs

    def _fill(
        self,
        folder: Path,
        shared: Path,
        there: Mapping[str, FileEntry],
        built: Built,
        manifest: Manifest,
        figures: Mapping[str, Any],
        seed: int,
    ) -> dict[Split, int]:
        """Write what is not `there` into `folder`, what is of all sources into `shared`; the manifest goes last."""
        for done in [built.tokenizer, *(done for one in built.sources for done in _shards(one))]:
            link_outputs(done, self._work, folder)
        files = dict(there)
        for source in built.sources:
            files |= write_losses(source, self._work, folder, there)
        found = [done.result for one in built.sources for done in one.pairs]
        pairs = write_pairs(shared / "pairs", found, seed) if found else {}
        for name, values in figures.items():
            write_json((folder if name == PREP_NAME else shared) / name, values)  # nothing depends on those of the run
        names = [*(f"pairs/{split}.jsonl" for split in pairs), *(name for name in figures if name != PREP_NAME)]
        files |= {name: file_entry(shared / name) for name in names}
        for path, _, _ in os.walk(folder):
            sync_folder(path)
        write_manifest(folder, manifest.model_copy(update={"files": files}))
        return pairs


def link_outputs(done: Done, work: Path, folder: Path) -> None:
    """Put a task's files into a corpus folder; those that are there stay as they are."""
    for output in done.outputs:
        target = folder / output.name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link(work / done.folder / output.name, target)


def _shards(source: BuiltSource) -> list[Done]:
    return [done for group in source.shards.values() for done in group]
