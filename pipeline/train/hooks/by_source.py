"""Losses and valid tokens by the source that a row came out of, between two rows of metrics."""

from collections.abc import Sequence

import torch

from pipeline.train.loop import StepInfo


class LossBySource:
    """Adds up this rank's, on the device. A row of a batch belongs to one source."""

    def __init__(self, names: Sequence[str]) -> None:
        """Begin at zero; `names` are those of the sources by their numbers in batches, S in all."""
        self.names = tuple(names)
        self._sums: torch.Tensor | None = None

    def add(self, info: StepInfo) -> None:
        """Take the rows of a step whose update was made."""
        if info.row_sums is None or info.batch.sources is None:
            return
        if self._sums is None:
            self._sums = torch.zeros(2, len(self.names) + 1, dtype=torch.float64, device=info.row_sums.device)
        sources = info.batch.sources.to(self._sums.device, non_blocking=True)  # -1, an empty row, is the last place
        tokens = info.batch.row_tokens.to(self._sums.device, non_blocking=True)
        rows = torch.stack([info.row_sums.double(), tokens.double()])  # in fp64 sums are exact in any order
        self._sums.index_add_(1, torch.where(sources < 0, len(self.names), sources), rows)

    def sums(self) -> torch.Tensor:
        """Losses in nats and tokens of each source, fp64 of shape (2, S) on the device."""
        if self._sums is None:
            return torch.zeros(2, len(self.names), dtype=torch.float64)
        return self._sums[:, :-1]


def added(before: dict[str, float], names: Sequence[str], sums: Sequence[float]) -> dict[str, float]:
    """Sums by source with those of more steps."""
    found = dict(before)
    for name, value in zip(names, sums, strict=True):
        found[name] = found.get(name, 0.0) + value
    return found
