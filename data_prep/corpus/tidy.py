"""What a killed append left in a corpus folder: the manifest decides what becomes of it."""

import os
import shutil
from pathlib import Path

from pipeline.corpus.corpus import Corpus
from pipeline.corpus.verification import NEXT_NAME, file_fault, stray_files
from pipeline.runtime.files import sync_folder


def is_tidy(folder: Path) -> bool:
    """Whether the folder of a corpus holds nothing that its manifest does not name."""
    return not stray_files(Corpus(folder))


def tidy(folder: Path) -> None:
    """Put what waited for the manifest where it belongs; delete the rest of what the manifest does not name."""
    corpus = Corpus(folder)
    for name, entry in corpus.manifest.files.items():
        waiting = folder / NEXT_NAME / name
        if waiting.exists() and file_fault(waiting, entry) is None:
            (folder / name).parent.mkdir(exist_ok=True)
            os.replace(waiting, folder / name)
            sync_folder((folder / name).parent)
    for path in stray_files(corpus):
        path.unlink()
        _remove_empty(path.parent, folder)
    shutil.rmtree(folder / NEXT_NAME, ignore_errors=True)


def _remove_empty(path: Path, below: Path) -> None:
    while path != below and not any(path.iterdir()):
        path.rmdir()
        path = path.parent
