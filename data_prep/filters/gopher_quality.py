"""The quality rules of Gopher (Rae et al. 2021, arXiv:2112.11446, A1.1).

Where the paper leaves a choice this does what datatrove does, whose thresholds are in wide use: punctuation counts as
words, but not for the number and mean length of words, and stop words are told apart by case.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import filterfalse, islice

from data_prep.filters.base import Filter
from data_prep.filters.rules import by_rules, share
from data_prep.filters.words import has_meaning, split_words
from pipeline.config.prep.filters import GopherQuality

_BULLETS = ("•", "-")
_ELLIPSES = ("...", "…")


def build(config: GopherQuality) -> Filter:
    """Drops texts that are not like prose: their words, symbols and lines are counted."""
    stop_words = sorted(set(config.stop_words))

    def find_reasons(text: str) -> Iterator[str]:
        words = split_words(text)
        yield from _word_reasons([word for word in words if word.isalnum() or has_meaning(word)], config)
        yield from _symbol_reasons(text, len(words), config.max_symbol_word_ratio)
        yield from _line_reasons(text.splitlines(), config)
        if share(_count_alphabetic(words), len(words)) < config.min_alphabetic_word_share:
            yield "few_alphabetic_words"
        present = (word for word in stop_words if word in words)  # they come early: quicker than a set of all words
        if len(list(islice(present, config.min_stop_words))) < config.min_stop_words:
            yield "few_stop_words"

    return by_rules(find_reasons)


def _word_reasons(words: Sequence[str], config: GopherQuality) -> Iterator[str]:
    """Reasons in the number and length of words."""
    if len(words) < max(1, config.min_words):
        yield "too_few_words"
    if len(words) > config.max_words:
        yield "too_many_words"
    mean_length = sum(map(len, words)) / len(words)
    if mean_length < config.min_mean_word_length:
        yield "short_words"
    if mean_length > config.max_mean_word_length:
        yield "long_words"


def _symbol_reasons(text: str, num_words: int, most: float) -> Iterator[str]:
    """Reasons in the number of hash signs and ellipses."""
    if share(text.count("#"), num_words) > most:
        yield "many_hashes"
    if share(sum(map(text.count, _ELLIPSES)), num_words) > most:
        yield "many_ellipses"


def _line_reasons(lines: Sequence[str], config: GopherQuality) -> Iterator[str]:
    """Reasons in how lines begin and end."""
    bullets = sum(line.lstrip().startswith(_BULLETS) for line in lines)
    if share(bullets, len(lines)) > config.max_bullet_line_share:
        yield "many_bullet_lines"
    ellipses = sum(line.rstrip().endswith(_ELLIPSES) for line in lines)
    if share(ellipses, len(lines)) > config.max_ellipsis_line_share:
        yield "many_ellipsis_lines"


def _count_alphabetic(words: Sequence[str]) -> int:
    """Words with a letter in them."""
    others = Counter(filterfalse(str.isalpha, words))
    return len(words) - sum(count for word, count in others.items() if not any(map(str.isalpha, word)))
