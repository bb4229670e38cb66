import json
import warnings
from pathlib import Path

import pytest

from data_prep.documents.source import SourceDocuments, hash_ranges
from data_prep.pairs import Pair, PairTask, function_pairs, write_pairs
from tests.unit.data_prep.reads import Given, write_reads

SOURCE = '''
class Thing:
    """Not a function."""

    @property
    def size(
        self,
        unit: str = "m",
    ) -> int:
        """How large it is,
        in some unit.

        More, which is left out.
        """
        return self._size  # cached

    async def grow(self):
        """Grow."""
        if self.size:
            def inner():
                "Inner."
                pass


def bare():
    """Nothing follows."""


def given_away():
    """Answer."""; return 1


def one_line(): "Not on a line of its own."


def no_docstring():
    return 2
'''


def test_signature_and_first_line_to_first_paragraph() -> None:
    assert dict(function_pairs(SOURCE)) == {
        'def size(\n    self,\n    unit: str = "m",\n) -> int:\n    return self._size  # cached': (
            "How large it is,\nin some unit."
        ),
        "async def grow(self):\n    if self.size:": "Grow.",
        "def inner():\n    pass": "Inner.",
        "def bare():": "Nothing follows.",
        "def given_away():": "Answer.",
    }


@pytest.mark.parametrize("text", ["print 'old'", "def f(:", "\tx\n  y", "(" * 5000])
def test_what_is_not_python_has_no_pairs(text: str) -> None:
    assert list(function_pairs(text)) == []


def test_warnings_of_old_sources_are_not_shown() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairs = list(function_pairs('def f():\n    """Doc."""\n    return "\\d" is 1\n'))
    assert pairs == [('def f():\n    return "\\d" is 1', "Doc.")]


def test_functions_in_every_kind_of_block_are_found() -> None:
    blocks = ("if x:", "else:", "try:", "except E:", "finally:", "while x:", "for x in y:", "with x:", "class C:")
    body = '\n    def f{}():\n        """Doc {}."""\n        pass\n'
    text = "".join(block + body.format(number, number) for number, block in enumerate(blocks))
    text += 'match x:\n    case 1:\n        def g():\n            """Doc g."""\n            pass\n'
    assert len(list(function_pairs(text))) == len(blocks) + 1


def read(path: Path) -> list[tuple[str, str]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all([message["role"] for message in row["messages"]] == ["user", "assistant"] for row in rows)
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    return [(row["messages"][0]["content"], row["messages"][1]["content"]) for row in rows]


def test_no_pair_comes_twice_and_no_learned_answer_is_held_out(tmp_path: Path) -> None:
    train = [Pair("a.py", "q1", "Learn this."), Pair("b.py", "q1", "Learn this."), Pair("a.py", "q2", "Other.")]
    held_out = [Pair("c.py", "q3", "learn\nthis."), Pair("c.py", "q4", "New."), Pair("d.py", "q4", "New.")]
    parts = [{"train": train[1:], "validation": held_out[:1]}, {"train": train[:1], "validation": held_out[1:]}]
    counts = write_pairs(tmp_path, parts, seed=0)  # type: ignore[arg-type]
    assert counts == {"train": 2, "validation": 1}
    assert set(read(tmp_path / "train.jsonl")) == {("q1", "Learn this."), ("q2", "Other.")}
    assert read(tmp_path / "validation.jsonl") == [("q4", "New.")]
    origins = {json.loads(line)["origin"] for line in (tmp_path / "train.jsonl").read_text().splitlines()}
    assert origins == {"a.py"}


def test_order_is_by_hash_not_by_input(tmp_path: Path) -> None:
    pairs = [Pair("a.py", f"q{number}", f"a{number}") for number in range(20)]
    for name, order in (("one", pairs), ("two", pairs[::-1])):
        write_pairs(tmp_path / name, [{"train": order, "validation": []}], seed=0)
    assert (tmp_path / "one/train.jsonl").read_bytes() == (tmp_path / "two/train.jsonl").read_bytes()
    assert [question for question, _ in read(tmp_path / "one/train.jsonl")] != [pair.question for pair in pairs]


def test_a_task_makes_pairs_of_its_range_each_in_the_split_of_its_document(tmp_path: Path) -> None:
    def document(number: int, split: int, origin: str = "a.py", answer: str = "Short.") -> Given:
        text = f'def f{number}():\n    """{answer}"""\n    return {number}\n'
        return Given(split, number << 123, origin, number, text.encode())

    documents = [document(number, split=number % 3) for number in range(9)]
    documents += [document(9, 0, origin="a.txt"), document(10, 0, answer="x" * 21), document(11, 0, answer="x" * 20)]
    write_reads(tmp_path / "reads", "code", documents)
    source = SourceDocuments("code", "", "", (), 0, ("reads",), ())
    whole = PairTask(source, *hash_ranges(1)[0], 20).run(tmp_path, tmp_path)
    assert {split: [pair.question.split("(")[0] for pair in pairs] for split, pairs in whole.items()} == {
        "train": ["def f0", "def f3", "def f6", "def f11"],
        "validation": ["def f1", "def f4", "def f7"],
    }
    parts = [PairTask(source, first, last, 20).run(tmp_path, tmp_path) for first, last in hash_ranges(7)]
    assert {split: [pair for part in parts for pair in part[split]] for split in whole} == whole
