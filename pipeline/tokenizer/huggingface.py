"""Hugging Face tokenizers: a folder with `tokenizer.json`, read by the `tokenizers` library alone.

Text never becomes a control token, even where it spells one. Whether it survives a round trip is the tokenizer's own
affair: one that normalises its input changes it.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from pipeline.errors import TokenizerError
from pipeline.runtime.files import atomic_file
from pipeline.tokenizer.base import WHITE_SPACE, Tokenizer

TOKENIZER_NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"
SPECIAL_TOKENS_NAME = "special_tokens_map.json"

_FILES = (TOKENIZER_NAME, CONFIG_NAME, SPECIAL_TOKENS_NAME)
_EOS_ROLES = ("eos_token", "sep_token")
"""What closes a document; encoders such as BERT have only the second."""
_SPACE = "\u2581"
_BYTE_LEVEL_SPACE = "\u0120\u0109\u010a\u010d"
"""Space, tab and line ends as byte-level vocabularies write them."""
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_UNMATCHABLE = "\U0010ffff"
"""A noncharacter, which no text may contain."""


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer of a Hugging Face folder."""

    def __init__(self, folder: str | Path) -> None:
        """Read `tokenizer.json` and the JSON files beside it.

        Raises:
            TokenizerError: A file is missing or damaged, or no end-of-sequence token is named.
        """
        self._folder = Path(folder)
        self._files = _read_files(self._folder)
        self._form = self._values(TOKENIZER_NAME)
        self._tokenizer = self._build(self._form)
        self._encoder = self._build(_text_form(self._form))
        added = self._tokenizer.get_added_tokens_decoder()
        self._controls = {token.content: id_ for id_, token in added.items() if token.special}
        self._added = {token.content for token in added.values()}
        self._vocab: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        self._vocab_size = max(self._vocab.values(), default=-1) + 1
        eos = next((id_ for id_ in map(self._named, _EOS_ROLES) if id_ is not None), None)
        if eos is None:
            raise TokenizerError(f"tokenizer {folder} names no eos_token; add one to its {CONFIG_NAME}")
        pad = self._named("pad_token")
        self._eos_id, self._pad_id = eos, eos if pad is None else pad

    def _values(self, name: str) -> dict[str, Any]:
        """The mapping in one of the files; empty if it is not there."""
        try:
            values = json.loads(self._files.get(name, b"{}"))
        except ValueError as error:
            raise TokenizerError(f"{self._folder / name} is not valid JSON ({error}); give a whole file") from error
        if not isinstance(values, dict):
            raise TokenizerError(f"{self._folder / name} must hold a JSON object, found {type(values).__name__}")
        return values

    def _build(self, form: dict[str, Any]) -> Any:
        try:
            return tokenizers.Tokenizer.from_buffer(json.dumps({**form, "truncation": None, "padding": None}).encode())
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise TokenizerError(
                f"{self._folder / TOKENIZER_NAME} is not a tokenizer ({reason}); give a whole file"
            ) from error

    def _named(self, role: str) -> int | None:
        """Id of the token that the configs give a role; None if they give none."""
        for name in (CONFIG_NAME, SPECIAL_TOKENS_NAME):
            token = self._values(name).get(role)
            content = token.get("content") if isinstance(token, dict) else token
            if content is None:
                continue
            if content not in self._vocab:
                raise TokenizerError(
                    f"{self._folder / name}: {role} is {content!r}, which the vocabulary lacks; name one of its tokens"
                )
            return self._vocab[content]
        return None

    @property
    def form(self) -> dict[str, Any]:
        """What `tokenizer.json` holds."""
        return self._form

    @property
    def vocab_size(self) -> int:
        """One more than the largest id; some vocabularies have holes."""
        return self._vocab_size

    @property
    def eos_id(self) -> int:
        """The token named `eos_token`, or `sep_token` where there is none."""
        return self._eos_id

    @property
    def pad_id(self) -> int:
        """The token named `pad_token`; EOS if there is none."""
        return self._pad_id

    def control_id(self, name: str) -> int | None:
        """Id of an added token that is marked as special."""
        return self._controls.get(name)

    @property
    def mask_id(self) -> int | None:
        """The token named `mask_token`, or the control token `<mask>`."""
        named = self._named("mask_token")
        return super().mask_id if named is None else named

    def word_edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """By a prefix of tokens that go on with a word (WordPiece), or by white space in the tokens."""
        prefix = self._form["model"].get("continuing_subword_prefix")
        marks = _BYTE_LEVEL_SPACE if self._is_byte_level() else WHITE_SPACE
        begins, ends = np.zeros((2, self.vocab_size), dtype=np.bool_)
        for token, id_ in self._vocab.items():
            begins[id_] = not token.startswith(prefix) if prefix else token[:1] in marks
            ends[id_] = not prefix and token[-1:] in marks
        if not begins.any():
            raise TokenizerError(
                f"objective.whole_words is true, and no token of tokenizer {self._folder} begins with white space, so"
                " that words cannot be told apart; set it to false"
            )
        return begins, ends

    def _is_byte_level(self) -> bool:
        return "ByteLevel" in _types([self._form.get("decoder"), self._form.get("pre_tokenizer")])

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return list(self._encoder.encode(text, add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, in this thread: `prep` has its own processes."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids."""
        return str(self._tokenizer.decode([int(id_) for id_ in ids], skip_special_tokens=True))

    def byte_lengths(self) -> NDArray[Any]:
        """UTF-8 bytes of each token, for byte-level, byte-fallback, metaspace and WordPiece vocabularies."""
        byte_level = self._is_byte_level()
        lengths = np.zeros(self.vocab_size, dtype=np.int64)
        for token, id_ in self._vocab.items():
            if token in self._added:
                lengths[id_] = 0 if token in self._controls else len(token.encode("utf-8"))
            else:  # GPT-2's form writes each byte as one character
                lengths[id_] = len(token) if byte_level else _byte_length(token, self._form["model"])
        return lengths

    def fingerprint(self) -> str:
        """sha256 over the files' names and contents."""
        digest = hashlib.sha256()
        for name, content in self._files.items():
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        return digest.hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write the files as they were read."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, content in self._files.items():
            with atomic_file(Path(folder) / name) as file:
                file.write(content)


def _read_files(folder: Path) -> dict[str, bytes]:
    if not (folder / TOKENIZER_NAME).is_file():
        raise TokenizerError(f"tokenizer {folder} has no {TOKENIZER_NAME}; give a tokenizer's folder")
    try:
        return {name: (folder / name).read_bytes() for name in _FILES if (folder / name).is_file()}
    except OSError as error:
        raise TokenizerError(f"tokenizer {folder} cannot be read: {error.strerror}; mend its rights") from error


def _text_form(form: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer for text: control tokens keep their ids and lose their spelling, so no text can match them."""
    added = form.get("added_tokens") or []
    controls = {token["content"] for token in added if token["special"]}

    def rename(token: Any) -> Any:
        return _UNMATCHABLE + token if token in controls else token

    model = dict(form.get("model") or {})
    vocab = model.get("vocab")
    if isinstance(vocab, dict):
        model["vocab"] = {rename(token): id_ for token, id_ in vocab.items()}
    elif vocab is not None:  # Unigram's
        model["vocab"] = [[rename(token), score] for token, score in vocab]
    if "unk_token" in model:
        model["unk_token"] = rename(model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if controls.isdisjoint(_merge_tokens(merge))]
    renamed = [{**token, "content": rename(token["content"])} for token in added]
    return {**form, "model": model, "added_tokens": renamed, "post_processor": None}


def _merge_tokens(merge: str | list[str]) -> tuple[str, str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right, left + right


def _types(value: Any) -> Iterator[str]:
    """Every `type` in a tree of JSON values."""
    if isinstance(value, dict):
        yield str(value.get("type"))
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _types(item)


def _byte_length(token: str, model: dict[str, Any]) -> int:
    if model.get("byte_fallback") and _BYTE_PIECE.fullmatch(token):
        return 1
    prefix = model.get("continuing_subword_prefix") or ""
    return len(token.removeprefix(prefix).replace(_SPACE, " ").encode("utf-8"))
