"""The face every tokenizer shows to the rest of Tarmac."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK_NAME = "<mask>"
"""Control token that stands for a hidden one, in tokenizers that give none that role."""
WHITE_SPACE = " \t\n\r\u2581"
"""What divides words, in the spellings of tokens."""


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

    @property
    def mask_id(self) -> int | None:
        """Id of the token that stands for a hidden one; None if there is none."""
        return self.control_id(MASK_NAME)

    @abstractmethod
    def word_edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which ids begin a word, and behind which the next word begins: two arrays of shape (vocab_size,).

        Raises:
            TokenizerError: Its tokens do not tell words apart.
        """

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
