"""Questions with one answer each, read from a file of conversations."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline.data.chat import Message
from pipeline.errors import CorpusError

Conversation = Sequence[Message]


def read_pairs(path: str | Path) -> list[Conversation]:
    """The conversations of one user's and one assistant's message in a JSON-lines file; longer ones are passed over.

    Raises:
        CorpusError: The file is missing, or a line is not a conversation (named).
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise CorpusError(f"pairs {path} cannot be read: {error.strerror}; give a JSON-lines file") from error
    conversations = [_messages(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    return [messages for messages in conversations if [turn["role"] for turn in messages] == ["user", "assistant"]]


def _messages(line: bytes, place: str) -> list[Message]:
    try:
        messages = json.loads(line)["messages"]
        return [Message(role=str(turn["role"]), content=str(turn["content"])) for turn in messages]
    except (ValueError, KeyError, TypeError) as error:
        form = '{"messages": [{"role", "content"}, …]}'
        fault = f"there is no key {error}" if isinstance(error, KeyError) else error
        raise CorpusError(f"{place}: not a conversation of the form {form}: {fault}; mend it") from error
