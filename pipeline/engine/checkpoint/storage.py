"""Where DeepSpeed writes and reads checkpoint files: every write is hashed and synced, every read verified first."""

import hashlib
import os
from pathlib import Path
from typing import Any, BinaryIO

import torch
from deepspeed.runtime.checkpoint_engine.checkpoint_engine import CheckpointCommitInfo, CheckpointEngine

from pipeline.engine.checkpoint.commit import Commit, FileRecord, file_fault
from pipeline.errors import CheckpointError


class _HashingFile:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.sha256, self.size = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        self._file.write(data)
        self.sha256.update(data)
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        self._file.flush()


class VerifiedStorage(CheckpointEngine):
    """Takes the place of DeepSpeed's own storage, which writes to final paths and unpickles whatever it finds."""

    def __init__(self) -> None:
        """Start with nothing written and nothing that may be read."""
        super().__init__()
        self.name = "VerifiedStorage"
        self._folder: Path | None = None
        self._commit: Commit | None = None
        self.written: list[FileRecord] = []
        """Files this rank wrote since `write_to`."""
        self.error: str | None = None
        """Why a write failed. Not raised at once: the other ranks wait in a collective that this one must reach."""

    def write_to(self, folder: Path) -> None:
        """From now on files go into this folder."""
        self._folder, self.written, self.error = folder, [], None

    def read_from(self, folder: Path, commit: Commit) -> None:
        """From now on files of this checkpoint may be read, if they match its commit."""
        self._folder, self._commit = folder, commit

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder; a failure is kept in `error`."""
        try:
            os.makedirs(path, exist_ok=exist_ok)
        except OSError as failure:
            self.error = f"{Path(path).name}: {failure}"

    def create(self, info: CheckpointCommitInfo) -> None:
        """Nothing to prepare."""

    def commit(self, info: CheckpointCommitInfo) -> bool:
        """DeepSpeed thinks it is done; the commit itself comes when all ranks agree."""
        return True

    def save(self, state_dict: Any, path: str) -> None:
        """Write one file, hashed while it is written and synced; a failure is kept in `error`."""
        assert self._folder is not None
        try:
            with open(path, "wb") as file:
                hashing = _HashingFile(file)
                torch.save(state_dict, hashing)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as failure:  # torch reports a failed write as RuntimeError
            self.error = f"{Path(path).name}: {failure}"
            return
        name = str(Path(path).relative_to(self._folder))
        self.written.append(FileRecord(name, hashing.size, hashing.sha256.hexdigest()))

    def load(self, path: str, map_location: Any = None) -> Any:
        """Read one file, only after its hash is known to be the committed one. Raises CheckpointError."""
        assert self._folder is not None
        assert self._commit is not None
        record = self._commit.record(str(Path(path).relative_to(self._folder)))
        fault = file_fault(self._folder, record)
        if fault is not None:
            raise CheckpointError(f"{self._folder}: {fault}")
        return torch.load(path, map_location=map_location, weights_only=False)  # DeepSpeed's own pickles, verified
