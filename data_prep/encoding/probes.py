"""Texts on which a fast encoder must give a tokenizer's own ids before it is trusted with any."""

import random
from collections.abc import Iterator, Sequence

from pipeline.tokenizer.base import Tokenizer

_HARD = (
    "",
    " ",
    "\n\n\n\t \t  \r\n\x0b\x0c\x85\u2028\u00a0\u3000",
    "\t\tif x:\r\n        return  y   \n\n\n    # \u2581\u2581 \u2581x\u2581\n",
    "<0x0A><0x0a><0xE2><0x96><0x81> \u2047 \u2585 \ufffd\ufffe\ufeff",
    "\x00\x01\x7f a\x00b\x00",
    "e\u0301 \u0301\u0323\u0301 \u1100\u1161\u11a8 \u0928\u093f \u0e33 \u064b\u0651 \u200d\u200c\u2060 \ufb01 \uff21",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea\U0001f1eb \U0001f44d\U0001f3fd 1\ufe0f\u20e3",
    "Größe Ærø naïve Ελλάδα Привет שלום مرحبا हिन्दी ไทย 中文 日本語 한국어 ქართული",
    "don't I'LL we've 's 3.14159e-10 0x1F 1234567890 $9,99 a_b__c ...?!;; http://a.b/c?d=e&f#g",
)
"""What tokenizers tend to disagree on: white space, spelled bytes, marks, joined emoji, scripts, numbers."""
_RUNS = ("a", " ", "\n", "=", "ab", "aab", "\t ", "\u4e2d", "\U0001f680", "\u0301")
_LONG = 5000
"""Characters of a run, and of the beginning that texts share: encoders may split long texts or remember beginnings."""
_TAILS = ("x y", " ", "\n", "\tx", "\n\nx")
"""Ends that decide how the white space before them is split."""


def probes(tokenizer: Tokenizer, names: Sequence[str]) -> list[str]:
    """Hard texts, spellings of names and bytes, all scripts, and every piece of the tokenizer in two orders."""
    pieces = [piece for id_ in range(tokenizer.vocab_size) if (piece := tokenizer.decode([id_]))]
    mixed = random.Random(0).sample(pieces, len(pieces))
    shared = "".join(mixed)[:_LONG].rstrip() + " " * 700
    return [
        *_HARD,
        *(run * (_LONG // len(run)) for run in _RUNS),
        *(before + name + after for name in names for before in ("", "a", " ", "\n", "\u4e2d") for after in ("", "a ")),
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *_scripts(),
        "".join(pieces),
        "".join(mixed),
        " ".join(mixed),
        *(shared + tail for tail in _TAILS),
    ]


def _scripts() -> Iterator[str]:
    """Characters of every block of Unicode, alone and with a combining mark."""
    for first in range(0, 0x20000, 0x1000):
        step = 1 if first < 0x3000 else 16  # from there on the blocks are long
        characters = [chr(code) for code in range(first, first + 0x1000, step) if not 0xD800 <= code < 0xE000]
        yield "".join(characters)
        yield "\u0301".join(characters)
