"""Cleaning: changes every text the same way, so that equal content has equal bytes."""

import re
import unicodedata

from pipeline.config.prep import Cleaning

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
REPLACEMENT = "\ufffd"


def clean_text(text: str, cleaning: Cleaning) -> str:
    """Line ends become LF, NUL goes, lone surrogates become U+FFFD, then the Unicode normal form is taken."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    text = _LONE_SURROGATE.sub(REPLACEMENT, text)
    return text if cleaning.normalization == "none" else unicodedata.normalize(cleaning.normalization, text)
