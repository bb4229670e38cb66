"""The repetition rules of Gopher (Rae et al. 2021, arXiv:2112.11446, table A1).

Counted as datatrove counts, whose use of the table is widespread: shares are of all the text's characters, white space
included; a top n-gram's characters include the spaces in it, those of repeated n-grams do not; paragraphs are parted
by blank lines; what is compared are words as `split_words` gives them, case and punctuation included.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter, mul

import numpy as np

from data_prep.filters.base import Filter
from data_prep.filters.ngrams import hash_ngrams
from data_prep.filters.rules import by_rules, count_repeats, share
from data_prep.filters.words import split_words
from pipeline.config.prep.filters import GopherRepetition

_PARAGRAPH_GAP = re.compile(r"\n{2,}")
_LINE_GAP = re.compile(r"\n+")


def build(config: GopherRepetition) -> Filter:
    """Drops texts that repeat lines, paragraphs or sequences of words."""

    def find_reasons(text: str) -> Iterator[str]:
        if not text:
            yield "empty"
        yield from _paragraph_reasons(text, config)
        yield from _line_reasons(text, config)
        words = split_words(text)
        yield from _top_reasons(words, len(text), config.top_ngrams)
        yield from _repeat_reasons(words, len(text), sorted(config.duplicate_ngrams))

    return by_rules(find_reasons)


def _paragraph_reasons(text: str, config: GopherRepetition) -> Iterator[str]:
    """Reasons in paragraphs that came before."""
    paragraphs = _PARAGRAPH_GAP.split(text.strip())
    num_repeats, characters = count_repeats(paragraphs)
    if share(num_repeats, len(paragraphs)) > config.max_duplicate_paragraph_share:
        yield "duplicate_paragraphs"
    if share(characters, len(text)) > config.max_duplicate_paragraph_character_share:
        yield "duplicate_paragraph_characters"


def _line_reasons(text: str, config: GopherRepetition) -> Iterator[str]:
    """Reasons in lines that came before."""
    lines = _LINE_GAP.split(text)
    num_repeats, characters = count_repeats(lines)
    if share(num_repeats, len(lines)) > config.max_duplicate_line_share:
        yield "duplicate_lines"
    if share(characters, len(text)) > config.max_duplicate_line_character_share:
        yield "duplicate_line_characters"


def _top_reasons(words: Sequence[str], num_characters: int, limits: Iterable[tuple[int, float]]) -> Iterator[str]:
    """Reasons in the commonest n-grams.

    An n-gram is at most as common as the longest of its words, at most n times as long, and n - 1 spaces longer. So
    the words, which are fewer and quicker to count, acquit most texts.
    """
    counts = Counter(words)
    most = max(counts.values(), default=0)
    most_characters = max(map(mul, counts.values(), map(len, counts)), default=0)
    for n, limit in limits:
        bound = n * most_characters + (n - 1) * most
        if share(bound, num_characters) > limit and share(_top_characters(words, n), num_characters) > limit:
            yield f"top_{n}_gram"


def _top_characters(words: Sequence[str], n: int) -> int:
    """Characters that the commonest n-gram makes up; of equally common ones, the first."""
    counts = Counter(_ngrams(words, n))
    if not counts:
        return 0
    ngram, count = max(counts.items(), key=itemgetter(1))
    return len(" ".join(ngram)) * count


def _repeat_reasons(words: Sequence[str], num_characters: int, limits: Sequence[tuple[int, float]]) -> Iterator[str]:
    """Reasons in n-grams that came before, `limits` sorted by n.

    Where a longer n-gram came before, so did the shortest ones in it. So what these cover acquits most texts.
    """
    if not limits:
        return
    covered = _covered_characters(words, limits[0][0])
    for n, limit in limits:
        if share(covered, num_characters) > limit and share(_repeated_characters(words, n), num_characters) > limit:
            yield f"duplicate_{n}_grams"


def _covered_characters(words: Sequence[str], n: int) -> int:
    """Characters of the words that are in some n-gram that is there twice; or more, should hashes of others agree."""
    ngrams = hash_ngrams(np.fromiter(map(hash, words), np.int64, len(words)).view(np.uint64), n)
    ordered = np.sort(ngrams)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if not repeated.size:
        return 0
    starts = np.flatnonzero(np.isin(ngrams, repeated))
    covered = np.unique(starts[:, None] + np.arange(n))
    return int(np.fromiter(map(len, words), np.int64, len(words))[covered].sum())


def _repeated_characters(words: Sequence[str], n: int) -> int:
    """Characters in n-grams that came before; after one of these the search goes on behind it, so none overlap."""
    seen = set[tuple[str, ...]]()
    characters, next_start = 0, 0
    for start, ngram in enumerate(_ngrams(words, n)):
        if start < next_start:
            continue
        if ngram in seen:
            characters += sum(map(len, ngram))
            next_start = start + n
        seen.add(ngram)
    return characters


def _ngrams(words: Sequence[str], n: int) -> Iterable[tuple[str, ...]]:
    """Every n words that follow one another."""
    return zip(*(words[start:] for start in range(n)), strict=False)
