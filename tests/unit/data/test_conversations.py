import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.data.batch import IGNORED, Rows
from pipeline.data.chat import ROLES, Message, jinja_template, render, render_prompt
from pipeline.data.conversations import SOURCE, Conversations
from pipeline.data.cuts import Cut, Cuts, ShardCut
from pipeline.errors import CorpusError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.convert import write_huggingface
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from tests.unit.tokenizer.models import trained, write_byte_level

CONTENT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=20)
CHATS = st.lists(st.builds(Message, role=st.sampled_from(ROLES), content=CONTENT), min_size=1, max_size=5)

CHAT = [
    Message(role="system", content="Be brief."),
    Message(role="user", content="def add(a, b):"),
    Message(role="assistant", content="Adds two numbers."),
    Message(role="user", content="More."),
    Message(role="assistant", content="It returns a + b."),
]

PAD = -1
"""No token is that."""


def write(path: Path, *chats: object) -> Path:
    path.write_text("".join(json.dumps({"id": "1", "messages": chat}, ensure_ascii=False) + "\n\n" for chat in chats))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceTokenizer:
    """A tokenizer without control tokens for chats."""
    return HuggingFaceTokenizer(write_byte_level(tmp_path_factory.mktemp("plain") / "tokenizer"))


def fetched(conversations: Conversations, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Inputs and labels of one conversation, without what its row is filled up with."""
    cut = Cut(conversations.sequence_length, "whole")
    at = ShardCut(SOURCE, 0, 0, cut)
    rows = Rows(1, conversations.sequence_length, pad_id=PAD)
    pieces = Cuts(conversations.shards, seed=0).pieces(at)
    conversations.fill(rows, np.array([0]), at, pieces, np.array([number]))
    used = int((rows.inputs[0] != PAD).sum())
    assert (rows.inputs[0, used:] == PAD).all()
    assert (rows.labels[0, used:] == IGNORED).all()
    return rows.inputs[0, :used], rows.labels[0, :used]


def test_prompts_are_masked_and_answers_with_their_end_are_learned(tmp_path: Path) -> None:
    tokenizer = trained()
    conversations = Conversations(write(tmp_path / "chats.jsonl", CHAT), tokenizer, 200)
    inputs, labels = fetched(conversations, 0)
    first, second = (tokenizer.encode(CHAT[number]["content"]) for number in (2, 4))
    assert labels[labels != IGNORED].tolist() == [*first, 7, *second, 7, tokenizer.eos_id]
    ids, _ = render(CHAT, tokenizer)
    assert [*inputs.tolist(), ids[-1]] == ids
    for token, label, following in zip(inputs, labels, ids[1:], strict=True):
        assert label in (IGNORED, following)
        assert token != tokenizer.eos_id
    assert tokenizer.decode(ids) == "".join(message["content"] for message in CHAT)


def test_roles_are_written_as_text_without_control_tokens(plain: HuggingFaceTokenizer) -> None:
    ids, learned = render(CHAT[1:3], plain)
    assert plain.decode(ids) == "### User:\ndef add(a, b):\n\n### Assistant:\nAdds two numbers.\n\n"
    assert plain.decode([id_ for id_, one in zip(ids, learned, strict=True) if one]) == "Adds two numbers.\n\n"
    assert (ids[-1], learned[-1]) == (plain.eos_id, True)
    assert plain.decode(render_prompt(CHAT[1:2], plain)) == "### User:\ndef add(a, b):\n\n### Assistant:\n"


@given(CHATS)
def test_a_prompt_is_how_the_conversation_begins(chat: list[Message]) -> None:
    answered = [*chat, Message(role="assistant", content="yes")]
    ids, learned = render(answered, trained())
    prompt = render_prompt(chat, trained())
    assert ids[: len(prompt)] == prompt
    assert learned[len(prompt) :] == [True] * (len(ids) - len(prompt))


def auto_tokenizer(tokenizer: Tokenizer, folder: Path):  # type: ignore[no-untyped-def]
    from transformers import AutoTokenizer

    write_huggingface(tokenizer, folder, jinja_template(tokenizer))
    return AutoTokenizer.from_pretrained(folder)


def test_the_chat_template_gives_the_same_ids(tmp_path: Path) -> None:
    auto = auto_tokenizer(trained(), tmp_path / "tokenizer")

    @given(CHATS)
    def check(chat: list[Message]) -> None:
        assert auto.apply_chat_template(chat, return_dict=False) == render(chat, trained())[0]
        prompt = auto.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
        assert prompt == render_prompt(chat, trained())

    check()


def test_the_chat_template_gives_the_same_text_without_control_tokens(
    plain: HuggingFaceTokenizer, tmp_path: Path
) -> None:
    auto = auto_tokenizer(plain, tmp_path / "tokenizer")
    text = auto.apply_chat_template(CHAT, tokenize=False)
    assert text == plain.decode(render(CHAT, plain)[0]) + "<|endoftext|>"
    prompt = auto.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == plain.decode(render_prompt(CHAT[:2], plain))


def test_what_is_too_long_is_left_out_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "chats.jsonl", CHAT[1:3], CHAT, CHAT[1:3])
    length = len(render(CHAT[1:3], trained())[0]) - 1
    conversations = Conversations(path, trained(), length)
    assert (len(conversations), conversations.num_too_long) == (2, 1)
    assert conversations.shards[SOURCE].num_positions.tolist() == [2]
    assert len(fetched(conversations, 1)[0]) == length
    assert conversations.fingerprint(SOURCE, 1) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(CorpusError, match=rf"no conversation of at most {length - 1} tokens; raise data.sequence_len"):
        Conversations(path, trained(), length - 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not a conversation of the form"),
        ("[]", "not a conversation of the form"),
        ('{"messages": 3}', "not a conversation of the form"),
        ('{"messages": [{"role": "user"}]}', "not a conversation of the form .*: there is no key 'content'; mend it"),
        ('{"messages": [{"role": "user", "content": null}]}', "content is None, not text"),
        ('{"messages": [{"role": "assistant", "content": "\\ud800"}]}', "surrogates not allowed"),
        (
            '{"messages": [{"role": "robot", "content": "a"}]}',
            "role is 'robot'; it must be one of system, user, assist",
        ),
        ('{"messages": [{"role": "user", "content": "a"}]}', "nothing to learn; add one or remove the line"),
        ('{"messages": []}', "nothing to learn; add one or remove the line"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "chats.jsonl", CHAT)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(CorpusError, match=rf"chats.jsonl, line 3: .*{message}") as error:
        Conversations(path, trained(), 200)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"nothing.jsonl cannot be read: .*; give a JSON-lines file"):
        Conversations(tmp_path / "nothing.jsonl", trained(), 200)
