"""The rules that FineWeb adds (Penedo et al. 2024, arXiv:2406.17557, 3.6), as datatrove applies them."""

from collections.abc import Iterator

import regex

from data_prep.filters.base import Filter
from data_prep.filters.rules import by_rules, count_repeats, share
from data_prep.filters.words import split_words
from pipeline.config.prep.filters import FineWebQuality

_ENDS_SENTENCE = regex.compile(r"\p{STerm}")
"""Terminal punctuation of every script (Unicode property Sentence_Terminal), quotation marks not among it."""


def build(config: FineWebQuality) -> Filter:
    """Drops lists, menus and other texts whose lines are not prose. Blank lines do not count as lines."""

    def find_reasons(text: str) -> Iterator[str]:
        lines = [line for line in text.split("\n") if line and not line.isspace()]
        if not lines:
            yield "empty"
        if share(sum(map(_is_punctuated, lines)), len(lines)) < config.min_punctuated_line_share:
            yield "few_punctuated_lines"
        num_short = sum(len(line) <= config.short_line_length for line in lines)
        if share(num_short, len(lines)) > config.max_short_line_share:
            yield "many_short_lines"
        num_line_feeds = text.count("\n")
        repeated = count_repeats(lines)[1]
        if share(repeated, len(text) - num_line_feeds) > config.max_duplicate_line_character_share:
            yield "duplicate_line_characters"
        if share(num_line_feeds, len(split_words(text))) > config.max_newline_word_ratio:
            yield "many_line_feeds"

    return by_rules(find_reasons)


def _is_punctuated(line: str) -> bool:
    """Whether a line's last character ends a sentence."""
    return _ENDS_SENTENCE.match(line[-1]) is not None
