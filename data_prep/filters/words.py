"""Words and sentences, as the quality rules count them."""

from functools import lru_cache

import regex

_SIGNS = regex.compile(r"[^\w\s'’]+|\B['’]|['’]\B")
_MEANING = regex.compile(r"[^\W_]")
_SENTENCE_END = regex.compile(r"""\p{STerm}["'”’)\]]*(?=\s|$)""")


@lru_cache(maxsize=1)
def split_words(text: str) -> list[str]:
    """Words, and runs of punctuation and symbols between them, which count as words too. Do not change the list.

    The published thresholds were used with tokenizers that split off punctuation (datatrove: spaCy, before that NLTK).
    The last text's words are kept, because filters that follow one another ask for the same ones.
    """
    spread: str = _SIGNS.sub(r" \g<0> ", text)
    return spread.split()


def has_meaning(word: str) -> bool:
    """Whether there is a letter, mark or digit in a word."""
    return _MEANING.search(word) is not None


def count_sentences(text: str) -> int:
    """Stretches of text that end in terminal punctuation, an unfinished last one included.

    The full stop of an abbreviation ends one too, and a line end does not.
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    rest = text[ends[-1] :] if ends else text
    return len(ends) + bool(rest.strip())
