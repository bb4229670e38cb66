import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters import decontaminate
from data_prep.filters.base import Dropped
from data_prep.filters.ngrams import NgramSet, hash_words
from pipeline.config.prep.filters import Decontaminate
from pipeline.errors import ConfigError, CorpusError
from tests.unit.data_prep.filter_texts import library_texts

FIFTEEN = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
WORDS = FIFTEEN.split()
WORD_LISTS = st.lists(st.sampled_from("abcd"), max_size=30)


def has_common_ngram(evaluation: list[list[str]], words: list[str], n: int, min_words: int) -> bool:
    """What the set answers, the slow way."""
    wanted = set[tuple[str, ...]]()
    for text in evaluation:
        if text and len(text) >= min_words:
            size = min(n, len(text))
            wanted |= {tuple(text[start : start + size]) for start in range(len(text) - size + 1)}
    sizes = {len(ngram) for ngram in wanted}
    return any(tuple(words[start : start + size]) in wanted for size in sizes for start in range(len(words)))


@given(st.lists(WORD_LISTS, max_size=4), WORD_LISTS, st.integers(1, 6), st.integers(0, 8))
def test_the_set_finds_what_the_slow_way_finds(
    evaluation: list[list[str]], words: list[str], n: int, min_words: int
) -> None:
    ngrams = NgramSet.from_texts(map(" ".join, evaluation), n, min_words)
    assert ngrams.matches(" ".join(words)) == has_common_ngram(evaluation, words, n, min_words)
    assert (ngrams.hashes[1:] > ngrams.hashes[:-1]).all()


def test_thirteen_words_in_a_row_are_found_and_twelve_are_not() -> None:
    ngrams = NgramSet.from_texts([FIFTEEN], 13, 8)
    around = "some words before {} and some words after"
    assert ngrams.matches(around.format(" ".join(WORDS[1:14])))
    assert not ngrams.matches(around.format(" ".join(WORDS[1:13])))
    assert not ngrams.matches(around.format(" ".join([*WORDS[:7], "more", *WORDS[7:13]])))
    assert not ngrams.matches(" ".join(reversed(WORDS)))


def test_short_texts_count_whole_and_very_short_ones_not_at_all() -> None:
    ngrams = NgramSet.from_texts([" ".join(WORDS[:9]), "Is it?"], 13, 8)
    assert ngrams.matches("x " + FIFTEEN)
    assert not ngrams.matches(" ".join(WORDS[:8]))
    assert not ngrams.matches("Is it? Is it?")
    assert not NgramSet.from_texts(["Is it?"], 13, 8).matches("Is it?")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Don't STOP -- now!", "don t stop, now"),
        ("“Ärger”…im\u00a0Büro", "ärger im büro"),
        ("\ufb01ne x²", "fine x2"),
        ("天気がいい。", "天 気 が い い"),
        ("हिन्दी\tभाषा", "हिन्दी; भाषा"),
        ("snake_case(x)", "snake case x"),
        ("ภาษาไทย", "ภ า ษ า ไ ท ย"),
    ],
)
def test_words_that_count_as_equal(one: str, other: str) -> None:
    assert hash_words(one).tolist() == hash_words(other).tolist()


@pytest.mark.parametrize(
    "text", ["ab ba", "a b ab", "aa aaa aaaa", "a1 1a", "über uber", "हि ही", "x xxxxxxxxx xxxxxxxx"]
)
def test_words_that_differ(text: str) -> None:
    assert len(set(hash_words(text).tolist())) == len(text.split())


@given(st.lists(st.text(st.sampled_from("abcdefgh"), min_size=1, max_size=70)))
def test_equal_hashes_are_equal_words(words: list[str]) -> None:
    hashes = hash_words("; ".join(words)).tolist()
    assert len(hashes) == len(words)
    assert len(set(hashes)) == len(set(words))


def test_hashes_are_the_same_for_ever() -> None:
    """Stored sets are compared with texts of later versions."""
    assert hash_words("a golden über-longestword").tolist() == [
        15818834084057556226,
        13855630973733798071,
        7898790429889701019,
        13281306368061289442,
    ]
    assert NgramSet.from_texts([FIFTEEN], 13, 8).hashes.tolist() == [
        13646711888917684029,
        15851641535693394108,
        18308516146935479379,
    ]


def test_every_character_of_a_word_counts() -> None:
    words = ["x" * length + last + "x" * more for length in range(63) for more in (0, 5) for last in "ab"]
    assert len(set(hash_words(" ".join(words)).tolist())) == len(words)


def test_real_words_have_distinct_hashes() -> None:
    words = sorted({word for text in library_texts() for word in text.lower().split() if word.isalnum()})
    assert len(words) > 5000
    assert len(set(hash_words(" ".join(words)).tolist())) == len(words)


def test_an_empty_set_matches_nothing() -> None:
    assert not NgramSet.from_texts([], 13, 8).matches(FIFTEEN)


QUESTION = "What is the name of the river that flows through the old town of the city?"
ANSWER = "It is told in many books that the river has had no name for a thousand years."
FILES = {
    "lines.jsonl": "\n".join(json.dumps({"query": text, "n": 1}) for text in (QUESTION, ANSWER)) + "\n",
    "one.json": json.dumps(
        {"data": [{"paragraphs": [{"context": QUESTION, "answers": [{"text": ANSWER}]}]}]}, indent=1
    ),
    "lines.json": "\r\n\r\n".join(json.dumps([text]) for text in (QUESTION, ANSWER)),
    "plain.txt": f"{QUESTION}\n \n{ANSWER}\r\n",
    "marked.jsonl": "\ufeff" + json.dumps(f"{QUESTION} {ANSWER}"),
    "marked.txt": f"\ufeff{QUESTION}\n\n{ANSWER}",
}


def config(*paths: Path | str, **changes: int) -> Decontaminate:
    return Decontaminate.model_validate({"type": "decontaminate", "paths": tuple(map(str, paths)), **changes})


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_texts_of_all_kinds_of_files_are_looked_for(tmp_path: Path, name: str, ending: str) -> None:
    compress = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}[ending]
    (tmp_path / (name + ending)).write_bytes(compress(FILES[name].encode()))
    judge = decontaminate.build(config(tmp_path / "*"))
    assert judge(f"Page 1. {QUESTION.upper()} Page 2.", {}) == Dropped("contaminated")
    assert judge(f"Page 1. {ANSWER} Page 2.", {}) == Dropped("contaminated")
    clean = f"{QUESTION[:50]} {ANSWER[:50]} query query query"
    assert judge(clean, {}) == clean


def test_files_come_in_order_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.txt", "a.txt", "sub/c.txt", "[x].txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(QUESTION)
    monkeypatch.chdir(tmp_path)
    assert decontaminate.inputs(config("**/*.txt", "a.txt")) == ["[x].txt", "a.txt", "b.txt", "sub/c.txt"]
    assert decontaminate.inputs(config("[x].txt")) == ["[x].txt"]
    with pytest.raises(ConfigError, match="paths: 'sub' matches no file; give a file or a glob"):
        decontaminate.inputs(config("a.txt", "sub"))


@pytest.mark.parametrize(
    ("name", "content"), [("a.jsonl", b'{"a": "b"}\n{"a'), ("a.txt", b"\xff"), ("a.txt.gz", b"\x1f\x8b")]
)
def test_a_damaged_file_is_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=name):
        decontaminate.build(config(tmp_path / name))


def test_files_without_a_text_that_is_long_enough_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Is it?")
    with pytest.raises(ConfigError, match="hold no text of 8 words; give other files, or a smaller min_words"):
        decontaminate.build(config(tmp_path / "a.txt"))
    assert decontaminate.build(config(tmp_path / "a.txt", min_words=2))("is it", {}) == Dropped("contaminated")


@pytest.mark.realdata
def test_each_evaluation_question_is_found_in_a_page_that_holds_it(realdata: Path) -> None:
    path = realdata / "eval" / "arc_easy.jsonl"
    judge = decontaminate.build(config(path))
    texts = [text for text in decontaminate.read_texts(str(path)) if hash_words(text).size >= 8]
    assert len(texts) > 1000
    assert all(judge(f"Before. {text} After.", {}) == Dropped("contaminated") for text in texts)
    for novel in (realdata / "british_fiction").glob("*.txt"):
        text = novel.read_text(encoding="utf-8", errors="replace")
        assert judge(text, {}) == text
