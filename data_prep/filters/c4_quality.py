"""The rules of C4 (Raffel et al. 2020, arXiv:1910.10683, 2.2): bad lines go, then bad documents.

Done as in datatrove, and as in the code behind C4 where that differs from the paper: lines with a word that is too
long or with a cookie or privacy notice go too; an apostrophe ends a line as a quotation mark does, an ellipsis does
not; `lorem ipsum` and `{` drop the document only if they are in a line that is long enough and ends like a sentence;
a line's words are counted before citations are taken out of it. The list of bad words is not applied.
"""

import re
from collections.abc import Iterable, Iterator, MutableMapping

from data_prep.filters.base import Dropped, Filter
from data_prep.filters.words import count_sentences
from pipeline.config.prep.filters import C4Quality

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_LINE_ENDS = (".", "?", "!", '"', "'")
_POLICIES = (
    "terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies",
)  # fmt: skip


def build(config: C4Quality) -> Filter:
    """Gives back the lines that are like prose, without white space at both ends."""

    def keep_lines(text: str, metadata: MutableMapping[str, str]) -> str | Dropped:
        lines = list(_long_lines(text.splitlines(), config))
        if reason := _document_reason(lines, config):
            return Dropped(reason)
        lines = [line for line in lines if not _is_notice(line.lower(), config)]
        if sum(map(count_sentences, lines)) < config.min_sentences:
            return Dropped("too_few_sentences")
        return "\n".join(lines).strip() or Dropped("no_line_left")

    return keep_lines


def _long_lines(lines: Iterable[str], config: C4Quality) -> Iterator[str]:
    """Lines that end like a sentence and have enough words, none of them too long; citations taken out."""
    for line in lines:
        words = line.split()
        if max(map(len, words), default=0) > config.max_word_length:
            continue
        line = line.strip()
        if config.remove_citations:
            line = _CITATION.sub("", line)
        if config.require_terminal_punctuation and (not line.endswith(_LINE_ENDS) or line.endswith("...")):
            continue
        if len(words) >= config.min_words_per_line:
            yield line


def _document_reason(lines: Iterable[str], config: C4Quality) -> str | None:
    """Why the lines drop the document they are in: the reason of the first such line."""
    for line in lines:
        if config.drop_lorem_ipsum and "lorem ipsum" in line.lower():
            return "lorem_ipsum"
        javascript = config.drop_javascript_lines and "javascript" in line.lower()
        if config.drop_curly_brackets and "{" in line and not javascript:
            return "curly_bracket"
    return None


def _is_notice(line: str, config: C4Quality) -> bool:
    """Whether a line, in lower case, tells of scripts, cookies or privacy."""
    if config.drop_javascript_lines and "javascript" in line:
        return True
    return config.drop_policy_lines and any(policy in line for policy in _POLICIES)
