"""Rules that drop a cleaned text; the first that applies is the reason in the statistics."""

from collections.abc import Callable

from data_prep.filters.cleaning import REPLACEMENT
from pipeline.config.prep import Cleaning


def too_short(text: str, cleaning: Cleaning) -> bool:
    """Fewer characters than `min_characters`, white space at both ends not counted, or none."""
    return len(text.strip()) < max(1, cleaning.min_characters)


def undecodable(text: str, cleaning: Cleaning) -> bool:
    """More than `max_replacement_share` of the characters stand for bytes that were not UTF-8."""
    return text.count(REPLACEMENT) > cleaning.max_replacement_share * len(text)


RULES: dict[str, Callable[[str, Cleaning], bool]] = {"too_short": too_short, "undecodable": undecodable}


def drop_reason(text: str, cleaning: Cleaning) -> str | None:
    """Why a text is dropped; None if it is kept."""
    return next((reason for reason, rule in RULES.items() if rule(text, cleaning)), None)
