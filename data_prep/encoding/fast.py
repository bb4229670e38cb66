"""Encoding by fastokens.

It reads a `tokenizer.json`: the exported form (`pipeline/tokenizer/convert.py`) less its control tokens, so that no
text can become one. Where spaces are kept, its pieces hold real ones and nothing is replaced, so that U+2581 is itself.
"""

import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import MissingDependencyError, TokenizerError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.convert import tokenizer_form
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from pipeline.tokenizer.sentencepiece import SPACE, SentencePieceTokenizer

_PACKAGE = "fastokens"
_THREADS = "FASTOKENS_BPE_THREADS"

Encoded = tuple[NDArray[Any], NDArray[np.int64]]
"""The ids of some texts laid end to end, and each text's number of ids."""


class FastEncoder:
    """Encodes as a tokenizer does, or nearly so, on one thread and within bounded memory."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Read the tokenizer.

        Raises:
            MissingDependencyError: fastokens is not installed.
            TarmacError: The tokenizer has no exact `tokenizer.json`, or one with parts that fastokens does not know.
        """
        os.environ.setdefault(_THREADS, "1")  # workers are processes; it is read once, before the first text
        try:
            import fastokens
        except ImportError as error:
            raise MissingDependencyError(f"{_PACKAGE} is not installed: pip install 'tarmac[fast]'") from error
        self.name = f"{_PACKAGE} {version(_PACKAGE)}"
        form, self.names = text_form(tokenizer)
        try:
            self._encoder = fastokens.Tokenizer.from_json_str(json.dumps(form))
        except ValueError as error:
            raise TokenizerError(f"{self.name} cannot read the tokenizer: {error}") from error

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Ids of texts, uint32."""
        ids, offsets = self._encoder.encode_batch_flat(list(texts))
        return np.frombuffer(ids, "<u4"), np.diff(np.frombuffer(offsets, "<i8"))


def text_form(tokenizer: Tokenizer) -> tuple[dict[str, Any], list[str]]:
    """`tokenizer.json` for texts, and the names of what no text may become: control tokens, also as they are there.

    Raises:
        TarmacError: There is no exact one.
    """
    form = _form(tokenizer)
    added = form.get("added_tokens") or []
    names = {token["content"]: f"<|{token['id']}|>" for token in added if token["special"]}
    if isinstance(form["model"]["vocab"], dict):
        form = {**form, "model": _text_model(form["model"], names)}
    if isinstance(tokenizer, SentencePieceTokenizer) and form["normalizer"]:  # which puts a space before the text
        spaces = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
        form["normalizer"] = {"type": "Sequence", "normalizers": [spaces, form["normalizer"]]}
    left = [token for token in added if not token["special"]]
    text = {**form, "added_tokens": left, "post_processor": None, "truncation": None, "padding": None}
    return text, [*names, *names.values()]


def _form(tokenizer: Tokenizer) -> dict[str, Any]:
    if isinstance(tokenizer, SentencePieceTokenizer):
        return tokenizer_form(tokenizer)
    if isinstance(tokenizer, HuggingFaceTokenizer):
        return dict(tokenizer.form)
    raise TokenizerError(f"a {type(tokenizer).__name__} has no tokenizer.json")


def _text_model(model: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A BPE model with other names for its control tokens, and an entry for every ASCII character.

    Where a text spells an entry that no merge makes, such as `<s>` or `<0x0A>`, fastokens takes that entry if the
    vocabulary lacks one of its characters. So the names are ASCII, and every such character has an entry: its byte's.
    """
    vocab = {names.get(piece, piece): id_ for piece, id_ in model["vocab"].items()}
    for code in range(128):
        if (byte_piece := f"<0x{code:02X}>") in vocab:
            vocab.setdefault(chr(code), vocab[byte_piece])
    unknown: Any = model.get("unk_token")
    return {**model, "vocab": vocab, "unk_token": names.get(unknown, unknown)}
