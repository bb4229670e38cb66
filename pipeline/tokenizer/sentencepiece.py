"""sentencepiece tokenizers.

Text survives a round trip when the model was trained with identity normalisation, without a dummy prefix, with extra
white space kept and with byte fallback, as `tarmac prep` trains it. sentencepiece itself takes U+2581 for a space; here
such models spell it in bytes.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from pipeline.errors import TokenizerError
from pipeline.runtime.files import atomic_file
from pipeline.tokenizer.base import WHITE_SPACE, Tokenizer

MODEL_NAME = "tokenizer.model"
SPACE = "\u2581"
"""What sentencepiece writes for a space, in its pieces and while encoding."""


class SentencePieceTokenizer(Tokenizer):
    """A sentencepiece model."""

    def __init__(self, model: bytes) -> None:
        """Take the content of a model file. Raises TokenizerError if it is not one."""
        self._model = model
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except RuntimeError as error:
            raise TokenizerError(f"{MODEL_NAME} is not a sentencepiece model ({error}); give another") from error
        if self._processor.eos_id() < 0:
            raise TokenizerError(f"{MODEL_NAME} has no end-of-sentence piece; train it with one")
        self._space_bytes = self._spelled_space()

    def _spelled_space(self) -> list[int] | None:
        """The bytes of U+2581, if the model has byte pieces and lets a text be encoded in parts."""
        ids = [self._processor.PieceToId(f"<0x{byte:02X}>") for byte in SPACE.encode("utf-8")]
        in_parts = self._processor.Normalize(" a  ") == " a  ".replace(" ", SPACE)
        return ids if in_parts and all(map(self._processor.IsByte, ids)) else None

    @cached_property
    def _controls(self) -> dict[str, int]:
        ids = range(self.vocab_size)
        return {self._processor.IdToPiece(id_): id_ for id_ in ids if self._processor.IsControl(id_)}

    @property
    def processor(self) -> Any:
        """sentencepiece's own object."""
        return self._processor

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return int(self._processor.GetPieceSize())

    @property
    def eos_id(self) -> int:
        """The model's end-of-sentence piece."""
        return int(self._processor.eos_id())

    @property
    def pad_id(self) -> int:
        """The model's padding piece; EOS if it has none."""
        pad = int(self._processor.pad_id())
        return pad if pad >= 0 else self.eos_id

    def control_id(self, name: str) -> int | None:
        """Id of a control piece."""
        return self._controls.get(name)

    def word_edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Words begin at white space, and behind pieces that end with it."""
        spelled = [self._spelling(id_) for id_ in range(self.vocab_size)]
        begins = np.array([piece[:1] in WHITE_SPACE for piece in spelled])
        return begins, np.array([piece[-1:] in WHITE_SPACE for piece in spelled])

    def _spelling(self, id_: int) -> str:
        piece = str(self._processor.IdToPiece(id_))
        return chr(int(piece[3:5], 16)) if self._processor.IsByte(id_) else piece

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        if SPACE not in text or self._space_bytes is None:
            return list(self._processor.EncodeAsIds(text))
        ids: list[int] = []
        for number, part in enumerate(text.split(SPACE)):
            ids += [*(self._space_bytes if number else ()), *self._processor.EncodeAsIds(part)]
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts, in this thread."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids."""
        return str(self._processor.DecodeIds([int(id_) for id_ in ids]))

    def byte_lengths(self) -> NDArray[Any]:
        """UTF-8 bytes of each piece: a byte piece is one, a control piece none."""
        return np.array([self._byte_length(id_) for id_ in range(self.vocab_size)], dtype=np.int64)

    def _byte_length(self, id_: int) -> int:
        if self._processor.IsControl(id_) or self._processor.IsUnknown(id_):
            return 0
        if self._processor.IsByte(id_):
            return 1
        return len(self._processor.IdToPiece(id_).replace(SPACE, " ").encode("utf-8"))

    def fingerprint(self) -> str:
        """sha256 of the model file."""
        return hashlib.sha256(self._model).hexdigest()

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.model`."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        with atomic_file(Path(folder) / MODEL_NAME) as file:
            file.write(self._model)
