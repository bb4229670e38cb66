"""The face every tokenizer shows to the rest of Tarmac."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


class Tokenizer(ABC):
    """Text to token ids and back. `decode(encode(text)) == text` for any text."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids; every id is below it."""

    @property
    @abstractmethod
    def eos_id(self) -> int:
        """Id that closes a document."""

    @property
    @abstractmethod
    def pad_id(self) -> int:
        """Id that fills short sequences; never learned."""

    @abstractmethod
    def control_id(self, name: str) -> int | None:
        """Id of a control token such as `<|user|>`, which no text can produce; None if there is none of that name."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Ids of a text; no token is added."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """Text of some ids; control tokens have none. Broken UTF-8 becomes U+FFFD."""

    @abstractmethod
    def byte_lengths(self) -> NDArray[Any]:
        """UTF-8 bytes each id stands for, int64 of shape (vocab_size,); 0 for control tokens. Bits per byte need it."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over the tokenizer's files; equal tokenizers have equal ones."""

    @abstractmethod
    def save(self, folder: str | Path) -> None:
        """Write its files into a folder, which is made if missing."""
