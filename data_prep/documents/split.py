"""The split into train, validation and test, by the lower half of the seeded hash of each document's text."""

from collections.abc import Sequence
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


def moved_together(shares: SplitShares, extremes: Sequence[Extremes]) -> dict[int, int]:
    """What moves in any of some sources, which may hold the same texts: one text is never in two splits.

    Where that could leave a source nothing to train on, its lowest stays, even if there is nothing held out then.
    """
    moved = {hash_: split for one in extremes for hash_, split in moved_documents(shares, one).items()}
    last = {one.lowest for one in extremes if one.documents[0] <= len(moved)}
    return {hash_: split for hash_, split in moved.items() if hash_ not in last}
