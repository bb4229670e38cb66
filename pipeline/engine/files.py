"""Offload to a disk: flat tensors of the training state in files that are mapped into memory.

The kernel keeps of them in memory what there is room for, reads ahead what a pass over them wants next, and writes back
what was changed. To all else they are tensors on the host, so updates, checkpoints and resharding know nothing of it.
"""

import os
from pathlib import Path

import torch

from pipeline.errors import RunError


class Files:
    """Makes tensors whose memory is a file."""

    def __init__(self, folder: str, rank: int) -> None:
        """Files are made in a folder, which is made if it is not there."""
        self._folder, self._rank, self._number = Path(folder), rank, 0

    @property
    def are_used(self) -> bool:
        """Whether there are any."""
        return self._number > 0

    def zeros(self, like: torch.Tensor) -> torch.Tensor:
        """A tensor of the same shape and type.

        Raises:
            RunError: There is no room for it, or the folder cannot be written.
        """
        self._number += 1
        path = self._folder / f"rank-{self._rank}-{os.getpid()}-{self._number}"
        size = max(1, like.numel() * like.element_size())
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)  # now, and not by a signal in the middle of an update
            flat = torch.from_file(str(path), shared=True, size=like.numel(), dtype=like.dtype)
        except (OSError, RuntimeError) as error:
            raise RunError(
                f"engine.offload.folder ({self._folder}) does not take {size / 1e9:.3f} GB more: {error}; free space,"
                " or name another folder"
            ) from error
        finally:
            path.unlink(missing_ok=True)  # it lasts as long as it is mapped, so a kill leaves nothing
        return flat.view(like.shape)

    def moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """The same values. Raises as `zeros`."""
        return self.zeros(tensor).copy_(tensor.detach())
