"""The split into train, validation and test, by the lower half of the seeded hash of each document's text."""

from dataclasses import dataclass

from data_prep.documents.document import HALF_BITS, lower_half
from pipeline.corpus.manifest import Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
"""A split's number is its place here."""


@dataclass(frozen=True)
class SplitShares:
    """Which part of the documents is held out."""

    validation: float
    """Share for validation."""
    test: float
    """Share for tests."""

    def split_of(self, hash_: int) -> int:
        """Number of the split that a text with this hash belongs to."""
        share = lower_half(hash_) / (1 << HALF_BITS)
        if share < self.validation:
            return 1
        return 2 if share < self.validation + self.test else 0


@dataclass(frozen=True)
class Extremes:
    """What is needed to mend a split that left nothing for one side."""

    documents: tuple[int, int, int] = (0, 0, 0)
    """Documents of each split."""
    lowest: int | None = None
    """Hash of the training document with the lowest lower half."""
    highest: int | None = None
    """Hash of the held-out document with the highest lower half."""


def moved_documents(shares: SplitShares, extremes: Extremes) -> dict[int, int]:
    """Hashes of documents that change to another split: in small corpora no side may be empty.

    If validation is asked for and got nothing while training got at least two, the lowest goes there; if training got
    nothing, the highest of those held out goes to it.
    """
    train, validation, _ = extremes.documents
    if shares.validation and not validation and train > 1 and extremes.lowest is not None:
        return {extremes.lowest: 1}
    if not train and extremes.highest is not None:
        return {extremes.highest: 0}
    return {}
