import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.encoding.encoder import Encoder, choose_encoder, make_encoder, sampled, verify
from data_prep.encoding.fast import Encoded, FastEncoder
from data_prep.tokenizer.train import train_tokenizer
from pipeline.config.prep.tokenizer import TrainTokenizer
from pipeline.errors import MissingDependencyError
from pipeline.tokenizer.base import Tokenizer
from pipeline.tokenizer.huggingface import HuggingFaceTokenizer
from pipeline.tokenizer.sentencepiece import SentencePieceTokenizer
from tests.unit.small import small_texts
from tests.unit.tokenizer.models import library_texts, train, trained, write_byte_level

CONTROL_TOKENS = ("<unk>", "<s>", "</s>", "<pad>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
SPELLINGS = (*CONTROL_TOKENS, "<0x0A>", "<0x0a>", "\u2581", "\0", "\ufffd", "\ufeff", "\u2585", "\u2047")
JOINED = ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\U0001f44d\U0001f3fd", "1\ufe0f\u20e3")
SPACES = (" ", "  ", "    ", "\t", "\n", "\r\n", "\n\n    ", "\u00a0", "\u2028", "\u3000")
RUNS = tuple(run * (10**5 // len(run)) for run in ("a", " ", "\n", "=", "ab", "\t ", "\u4e2d", "\U0001f680", "\u0301"))
BLOCKS = tuple("".join(map(chr, range(first, first + 64))) for first in range(0, 0x30000, 256) if first >> 11 != 27)
"""64 characters of each 256, less the surrogates."""


def adversarial(tokenizer: Tokenizer, number: int) -> list[str]:
    """Seeded texts on which encoders tend to disagree."""
    draw = random.Random(0)
    pieces = [piece for id_ in range(tokenizer.vocab_size) if (piece := tokenizer.decode([id_]))]

    def pick(signs: Sequence[str], most: int) -> str:
        return "".join(draw.choices(signs, k=draw.randrange(most)))

    def text() -> str:
        block = draw.choice(BLOCKS)
        return draw.choice(
            (
                pick(draw.choice(BLOCKS[:16]) + block, 40),
                pick(pieces, 30),
                pick((*SPELLINGS, *draw.choices(pieces, k=9)), 20),
                pick((*JOINED, *SPACES, "\u0301", "a", block[0], block[-1]), 20),
                pick("ab \n\t=-_.#es\u2581\U0001f680", 80),
                draw.choice(pieces) * draw.randrange(60) + draw.choice(SPACES) + draw.choice(pieces),
            )
        )

    fixed = ["", *SPELLINGS, *JOINED, *SPACES, *BLOCKS, *RUNS]
    return fixed + [text() for _ in range(number - len(fixed))]


def one_by_one(tokenizer: Tokenizer, texts: Sequence[str]) -> Encoded:
    ids = [tokenizer.encode(text) for text in texts]
    return np.array([id_ for one in ids for id_ in one]), np.array([len(one) for one in ids])


def assert_same(found: Encoded, expected: Encoded) -> None:
    assert found[1].tolist() == expected[1].tolist()
    assert np.array_equal(found[0], expected[0])


def assert_fast_and_exact(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    encoder = choose_encoder(tokenizer, "auto")
    assert (encoder.name[:10], encoder.reason) == ("fastokens ", "")
    assert_same(encoder.encode(texts), one_by_one(tokenizer, texts))


def assert_reference(encoder: Encoder, reason: str) -> None:
    assert encoder.name == "reference"
    assert re.search(reason, encoder.reason)


@pytest.fixture(scope="module")
def large() -> SentencePieceTokenizer:
    return train_tokenizer(library_texts("*.py", 120), TrainTokenizer(type="train", vocab_size=8000))


@pytest.mark.parametrize("vocab_size", [320, 8000])
def test_20000_adversarial_texts_have_sentencepieces_ids_and_come_back(
    vocab_size: int, large: SentencePieceTokenizer
) -> None:
    small = train_tokenizer(small_texts(300), TrainTokenizer(type="train", vocab_size=320))
    assert not any("<" in small.processor.IdToPiece(id_) for id_ in range(264, 320))  # in which names can be spelled
    tokenizer = large if vocab_size == 8000 else small
    texts = adversarial(tokenizer, 20_000)
    assert len(texts) == 20_000
    assert_fast_and_exact(tokenizer, texts)
    ids, lengths = choose_encoder(tokenizer, "auto").encode(texts)
    assert min(ids) >= len(CONTROL_TOKENS)  # no text becomes a control token
    for text, part in zip(texts, np.split(ids, np.cumsum(lengths)[:-1]), strict=True):
        assert tokenizer.decode(part.tolist()) == text


@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=8))
def test_any_texts_have_sentencepieces_ids(large: SentencePieceTokenizer, texts: list[str]) -> None:
    assert_fast_and_exact(large, texts)
    assert_same(choose_encoder(large, "auto").reference(texts), one_by_one(large, texts))


def test_ids_do_not_depend_on_what_was_encoded_before(large: SentencePieceTokenizer) -> None:
    encoder, texts = choose_encoder(large, "auto"), adversarial(large, 5000)
    alone = [encoder.encode([text])[0] for text in reversed(texts)]
    assert np.array_equal(np.concatenate(alone[::-1]), encoder.encode(texts)[0])


@pytest.mark.realdata
def test_real_texts_have_sentencepieces_ids(large: SentencePieceTokenizer, realdata: Path) -> None:
    paths = sorted(realdata.rglob("*.txt"))
    assert len(paths) > 5
    assert_fast_and_exact(large, [path.read_text("utf-8", errors="replace")[:200_000] for path in paths])


def test_byte_level_tokenizers_are_fast_too(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(write_byte_level(tmp_path / "tokenizer"))
    spelled = ["<|user|> <tool> <|endoftext|>", "a<tool><|user|>\n"]
    texts = [*adversarial(tokenizer, 5000), *spelled, *library_texts("*.py", 3)]
    assert_fast_and_exact(tokenizer, texts)
    ids, _ = choose_encoder(tokenizer, "auto").encode(texts)
    assert not np.isin([tokenizer.control_id("<|endoftext|>"), tokenizer.control_id("<|user|>")], ids).any()
    assert np.isin(tokenizer.encode("<tool>"), ids).all()  # an added token, but no control token


def test_models_that_put_a_space_before_the_text_are_fast_too() -> None:
    tokenizer = SentencePieceTokenizer(train(add_dummy_prefix=True))
    assert_fast_and_exact(tokenizer, adversarial(tokenizer, 3000))


def with_normalizer(folder: Path, kind: str) -> Tokenizer:
    form = json.loads((write_byte_level(folder) / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**form, "normalizer": {"type": kind}}))
    return HuggingFaceTokenizer(folder)


def test_what_the_fast_encoder_cannot_read_is_encoded_by_the_reference(tmp_path: Path) -> None:
    unigram = SentencePieceTokenizer(train(model_type="unigram", vocab_size=600))
    normalizing = SentencePieceTokenizer(train(normalization_rule_name="nmt_nfkc"))
    reasons = {
        unigram: "not a plain sentencepiece BPE model",
        normalizing: "normalises its input",
        with_normalizer(tmp_path / "nfkc", "NFKC"): "fastokens .* cannot read the tokenizer: .*NFKC",
    }
    for tokenizer, reason in reasons.items():
        encoder, texts = choose_encoder(tokenizer, "auto"), adversarial(tokenizer, 1200)
        assert_reference(encoder, reason)
        assert_same(encoder.encode(texts), one_by_one(tokenizer, texts))


def test_the_reference_is_used_where_it_is_asked_for(large: SentencePieceTokenizer) -> None:
    assert_reference(choose_encoder(large, "reference"), "tokenizer.encoder is reference")


def test_without_the_package_the_reference_is_used(
    large: SentencePieceTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    assert_reference(choose_encoder(large, "auto", lambda made: FastEncoder(made)), r"pip install 'tarmac\[fast\]'")


class Broken(FastEncoder):
    """Gives a wrong first id to texts that hold a sign."""

    sign = "\t"

    def encode(self, texts: Sequence[str]) -> Encoded:
        ids, lengths = super().encode(texts)
        ids, starts = ids.copy(), np.cumsum(lengths) - lengths
        for text, start in zip(texts, starts, strict=True):
            if self.sign in text:
                ids[start] ^= 1
        return ids, lengths


class BrokenLater(Broken):
    sign = "a sign that no probe holds"


class Shifted(BrokenLater):
    """Gives the right ids, but counts one of a text's to the text behind it."""

    def encode(self, texts: Sequence[str]) -> Encoded:
        ids, lengths = FastEncoder.encode(self, texts)
        for place, text in enumerate(texts):
            if self.sign in text:
                lengths[place : place + 2] += (-1, 1)
        return ids, lengths


class Refusing(FastEncoder):
    def encode(self, texts: Sequence[str]) -> Encoded:
        raise ValueError("match limit exceeded")


def test_a_broken_encoder_is_not_chosen(large: SentencePieceTokenizer) -> None:
    assert_reference(choose_encoder(large, "auto", Broken), r"fastokens .* gives other ids for '\\n\\n\\n\\t")


@pytest.mark.parametrize("broken", [BrokenLater, Shifted])
def test_an_encoder_that_breaks_later_is_caught_by_the_sample(
    large: SentencePieceTokenizer, broken: type[FastEncoder]
) -> None:
    encoder = choose_encoder(large, "auto", broken)
    assert encoder.name.startswith("fastokens ")
    good, bad = [f"text {number} \u2581\n" for number in range(9)], f"here is {BrokenLater.sign}"
    texts = [*good[:5], bad, *good[5:]]
    encoded = encoder.encode(texts)
    assert verify(encoder, texts, *encoded, range(5))
    assert verify(encoder, texts, *encoded, [])
    for which in ([5], [0, 5], range(10)):
        assert not verify(encoder, texts, *encoded, which)
    assert verify(encoder, texts, *encoder.reference(texts), range(10))
    assert_same(encoder.reference(texts), one_by_one(large, texts))


def test_of_a_long_text_the_beginning_is_compared(large: SentencePieceTokenizer) -> None:
    encoder = choose_encoder(large, "auto", BrokenLater)
    long = "\n".join(small_texts(400))
    for text, same in ((BrokenLater.sign + long, False), (long, True), (long + BrokenLater.sign, True)):
        encoded = encoder.encode(["a b", text])
        assert verify(encoder, ["a b", text], *encoded, [0, 1]) == same
        assert verify(encoder, ["a b", text], *encoded, [0, 1], long=True) == (BrokenLater.sign not in text)


def test_texts_that_the_fast_encoder_refuses_are_encoded_by_the_reference(large: SentencePieceTokenizer) -> None:
    texts = ["a b", "", "c\n"]
    assert_same(choose_encoder(large, "auto", Refusing).encode(texts), one_by_one(large, texts))


def test_the_sample_is_one_in_256_by_hash() -> None:
    draw = random.Random(0)
    hashes = [draw.getrandbits(128) for _ in range(100_000)]
    places = sampled(hashes)
    assert 300 < len(places) < 480
    assert [place + 1 for place in places] == sampled([1, *hashes])  # no matter where it stands
    assert (sampled([]), sampled([1, 256, 2, 1 << 127])) == ([], [1, 3])


def test_ids_have_the_smaller_type_that_holds_them(large: SentencePieceTokenizer, tmp_path: Path) -> None:
    folder = write_byte_level(tmp_path / "sparse")
    form = json.loads((folder / "tokenizer.json").read_text())
    form["model"]["vocab"]["\u0120far"] = 70_000
    (folder / "tokenizer.json").write_text(json.dumps(form))
    for tokenizer, expected in ((large, np.uint16), (HuggingFaceTokenizer(folder), np.uint32)):
        for choice in ("auto", "reference"):
            for texts in (["a b", ""], []):
                ids, lengths = choose_encoder(tokenizer, choice).encode(texts)
                assert (ids.dtype, lengths.dtype) == (expected, np.int64)


def test_a_worker_stays_on_one_thread(large: SentencePieceTokenizer) -> None:
    choose_encoder(large, "auto").encode(library_texts("*.py", 60))
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert names
    assert not [name for name in names if name.startswith("fastokens")]


def test_an_encoder_is_made_once(large: SentencePieceTokenizer, tmp_path: Path) -> None:
    large.save(tmp_path)
    again = SentencePieceTokenizer((tmp_path / "tokenizer.model").read_bytes())
    made: list[Tokenizer] = []

    def make(tokenizer: Tokenizer) -> FastEncoder:
        made.append(tokenizer)
        return FastEncoder(tokenizer)

    name = choose_encoder(large, "auto", make).name
    for tokenizer in (again, large, again):
        texts = ["a b"]
        assert_same(make_encoder(tokenizer, name, make).encode(texts), one_by_one(large, texts))
    assert made == [large]
    make_encoder(trained(), name, make)
    assert len(made) == 2


def test_what_was_chosen_is_made_anywhere_or_refused(large: SentencePieceTokenizer) -> None:
    assert make_encoder(large, "reference").name == "reference"
    with pytest.raises(
        MissingDependencyError, match=r"fastokens 0\.0\.1 is needed as on the other machines, found fastokens"
    ):
        make_encoder(large, "fastokens 0.0.1")
