"""Fine-tuning sequences: one conversation each, the prompt masked."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.data.batch import IGNORED, Rows, Sequence
from pipeline.data.chat import ROLES, Message, render
from pipeline.data.cuts import Pieces, Positions, ShardCut
from pipeline.errors import CorpusError
from pipeline.tokenizer.base import Tokenizer

SOURCE = "conversations"


class _Shard(NamedTuple):
    """Conversations as the positions of a single shard."""

    num_positions: Positions

    def document_ends(self, shard: int) -> Positions:
        """Each is a document."""
        return np.arange(1, int(self.num_positions[shard]) + 1)


class Conversations:
    """The conversations of one JSON-lines file that fit the sequence length."""

    def __init__(self, path: str | Path, tokenizer: Tokenizer, sequence_length: int) -> None:
        """Read and tokenize the file.

        Raises:
            CorpusError: The file is missing or a line is not a conversation (named), or none fits.
        """
        self.sequence_length = sequence_length
        content = _read(Path(path))
        self._fingerprint = hashlib.sha256(content).hexdigest()
        lines = [(number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip()]
        rendered = [(number, *render(_messages(line, f"{path}, line {number}"), tokenizer)) for number, line in lines]
        kept = [one for one in rendered if len(one[1]) <= sequence_length + 1]
        self._sequences = [_sequence(ids, learned) for _, ids, learned in kept]
        self.places = [f"{path}:{number}" for number, _, _ in kept]
        """File and line of each sequence."""
        self.num_too_long = len(rendered) - len(kept)
        """Conversations left out because they have more tokens than the sequence length."""
        if not self._sequences:
            raise CorpusError(
                f"{path} has no conversation of at most {sequence_length} tokens;"
                " raise data.sequence_length or give another file"
            )

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def shards(self) -> Mapping[str, _Shard]:
        """One source with one shard."""
        return {SOURCE: _Shard(np.array([len(self)]))}

    def fingerprint(self, source: str, num_shards: int) -> str:
        """sha256 of the file."""
        return self._fingerprint

    def fill(self, rows: Rows, which: Positions, at: ShardCut, pieces: Pieces, sequences: Positions) -> None:
        """Write some conversations into the rows `which`."""
        rows.clear(which)
        for row, sequence in zip(which.tolist(), sequences.tolist(), strict=True):
            rows.put(row, self._sequences[sequence])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorpusError(f"conversations {path} cannot be read: {error.strerror}; give a JSON-lines file") from error


def _messages(line: bytes, place: str) -> list[Message]:
    try:
        value: Any = json.loads(line)
        messages = [Message(role=item["role"], content=_text(item["content"])) for item in value["messages"]]
    except (ValueError, KeyError, TypeError) as error:
        form = '{"messages": [{"role", "content"}, …]}'
        fault = f"there is no key {error}" if isinstance(error, KeyError) else error
        raise CorpusError(f"{place}: not a conversation of the form {form}: {fault}; mend it") from error
    for message in messages:
        if message["role"] not in ROLES:
            raise CorpusError(f"{place}: role is {message['role']!r}; it must be one of {', '.join(ROLES)}")
    if not any(message["role"] == "assistant" for message in messages):
        raise CorpusError(f"{place}: no message of the assistant, so nothing to learn; add one or remove the line")
    return messages


def _text(content: Any) -> str:
    if not isinstance(content, str):
        raise TypeError(f"content is {content!r}, not text")
    content.encode("utf-8")  # half a surrogate pair, which JSON can spell, is no text either
    return content


def _sequence(ids: list[int], learned: list[bool]) -> Sequence:
    tokens = np.array(ids, dtype=np.int64)
    return Sequence(tokens[:-1], np.where(learned[1:], tokens[1:], IGNORED))
