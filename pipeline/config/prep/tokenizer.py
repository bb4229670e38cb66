"""How text becomes tokens."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from pipeline.config.base import Config
from pipeline.config.prep.paths import FilePath

_NAMED_AND_BYTE_PIECES = 4 + 256
"""`<unk>`, `<s>`, `</s>`, `<pad>`, and a piece for each byte, so that any text can be spelled."""
Encoder = Literal["auto", "reference"]


class TrainTokenizer(Config):
    """Train a sentencepiece tokenizer on a deterministic sample of the corpus."""

    type: Literal["train"]
    """Train one."""
    algorithm: Literal["bpe", "unigram", "char"] = "bpe"
    """Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), a unigram model (Kudo 2018, arXiv:1804.10959), or a
    piece for each character."""
    vocab_size: PositiveInt
    """Number of pieces, control and byte pieces included; of characters so many at most."""
    sample_bytes: Annotated[int, Field(ge=1, le=10_000_000_000)] = 20_000_000
    """At most so much text is sampled. One worker holds it in memory, several times over."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1)] = 0.9999
    """Share of the sample's characters that get a piece of their own; the others are spelled in bytes."""
    control_tokens: tuple[str, ...] = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
    """Tokens for chats and the like, which no text can produce."""
    encoder: Encoder = "auto"
    """`auto` takes the fast encoder where it gives the same ids; `reference` never does."""

    @model_validator(mode="after")
    def bytes_have_room(self) -> "TrainTokenizer":
        """There are more pieces than those that every tokenizer has."""
        num_fixed = _NAMED_AND_BYTE_PIECES + len(self.control_tokens)
        if self.vocab_size <= num_fixed:
            raise ValueError(f"vocab_size ({self.vocab_size}) is too small for all bytes; use more than {num_fixed}")
        return self


class GivenTokenizer(Config):
    """Use an existing tokenizer: a folder with `tokenizer.model` or `tokenizer.json`."""

    type: Literal["given"]
    """Use one."""
    path: FilePath
    """The folder."""
    encoder: Encoder = "auto"
    """`auto` takes the fast encoder where it gives the same ids; `reference` never does."""


Tokenizer = Annotated[TrainTokenizer | GivenTokenizer, Field(discriminator="type")]
