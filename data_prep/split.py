"""The split into train and validation, by the seeded hash of each document's text."""

from data_prep.dedup.exact import Kept
from data_prep.document import HALF_BITS, lower_half


def validation_threshold(share: float, kept: Kept) -> int:
    """Documents whose hash's lower half is below this are held out.

    About `share` of a source's documents are. Where that would be none or all of at least two, exactly the one with
    the lowest hash is held out, or the one with the highest is not.
    """
    if share == 0 or kept.documents < 2:
        return 0
    threshold = int(share * (1 << HALF_BITS))
    return min(max(threshold, kept.lowest + 1), kept.highest)


def is_held_out(hash_: int, threshold: int) -> bool:
    """Whether a document belongs to the validation split."""
    return lower_half(hash_) < threshold
