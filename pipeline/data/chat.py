"""How a conversation becomes tokens, and which of them are learned: the assistant's, with the token that ends them.

With a tokenizer that has the control tokens, a message is `<|role|>` content `<|end|>`; otherwise the roles are
written as text. The conversation closes with EOS, which is learned too.
"""

from collections.abc import Sequence
from typing import TypedDict

from pipeline.tokenizer.base import Tokenizer

ROLES = ("system", "user", "assistant")


class Message(TypedDict):
    """One turn."""

    role: str
    content: str


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Token ids of a conversation, and for each whether it is to be learned."""
    ids: list[int] = []
    learned: list[bool] = []
    for message in messages:
        opening, closing = _marks(message["role"], tokenizer)
        body = tokenizer.encode(message["content"]) + closing
        ids += opening + body
        learned += [False] * len(opening) + [message["role"] == "assistant"] * len(body)
    return [*ids, tokenizer.eos_id], [*learned, bool(learned) and learned[-1]]


def render_prompt(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """Token ids up to where the assistant's answer begins."""
    ids = [token for message in messages for token in render([message], tokenizer)[0][:-1]]
    return ids + _marks("assistant", tokenizer)[0]


def _marks(role: str, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    opening, closing = tokenizer.control_id(f"<|{role}|>"), tokenizer.control_id("<|end|>")
    if opening is None or closing is None:
        return tokenizer.encode(f"### {role.capitalize()}:\n"), tokenizer.encode("\n\n")
    return [opening], [closing]


def jinja_template(tokenizer: Tokenizer) -> str:
    """The same form as a Hugging Face chat template."""
    if any(tokenizer.control_id(f"<|{name}|>") is None for name in (*ROLES, "end")):
        message = "'### ' + message['role'].capitalize() + ':\\n' + message['content'] + '\\n\\n'"
        prompt = "'### Assistant:\\n'"
    else:
        message = "'<|' + message['role'] + '|>' + message['content'] + '<|end|>'"
        prompt = "'<|assistant|>'"
    return (
        "{% for message in messages %}{{ " + message + " }}{% endfor %}"
        "{% if add_generation_prompt %}{{ " + prompt + " }}{% else %}{{ eos_token }}{% endif %}"
    )
