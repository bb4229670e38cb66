"""Instruction pairs made from Python sources: from a function's signature and first line to its docstring."""

import ast
import json
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from data_prep.documents.document import content_hash
from data_prep.documents.source import SourceDocuments
from data_prep.tasks.task import Task
from pipeline.corpus.manifest import Split
from pipeline.runtime.files import atomic_file

Function = ast.FunctionDef | ast.AsyncFunctionDef
_BLOCKS = ("body", "orelse", "handlers", "finalbody", "cases")
"""The fields of statements that hold further statements."""


@dataclass(frozen=True)
class Pair:
    """A question and its answer."""

    origin: str
    """The file it was made from."""
    question: str
    """Signature and first line of the body."""
    answer: str
    """First paragraph of the docstring."""

    def row(self, seed: int) -> dict[str, Any]:
        """The pair as a conversation."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return {"id": f"{self.hash(seed):032x}", "origin": self.origin, "messages": messages}

    def hash(self, seed: int) -> int:
        """A seeded hash of question and answer."""
        return content_hash(f"{self.question}\x1f{self.answer}", seed)


@dataclass(frozen=True)
class PairTask(Task):
    """One range of hashes of a source to make pairs from."""

    phase: ClassVar[str] = "pairs"
    result_type: ClassVar[Any] = dict[Split, list[Pair]]

    source: SourceDocuments
    """The source."""
    first: int
    """First of the range of hashes' upper halves."""
    last: int
    """Last of it."""
    max_answer_characters: int
    """Longer answers are left out."""

    def run(self, work: Path, folder: Path) -> dict[Split, list[Pair]]:
        """The pairs of the documents, each in its document's split."""
        splits: tuple[Split, Split] = ("train", "validation")
        return {split: list(self._pairs(work, split)) for split in splits}

    def _pairs(self, work: Path, split: Split) -> Iterator[Pair]:
        for document in self.source.documents(work, split, self.first, self.last):
            if document.origin.endswith(".py"):
                for question, answer in function_pairs(document.text.decode("utf-8")):
                    if len(answer) <= self.max_answer_characters:
                        yield Pair(document.origin, question, answer)


def function_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Question and answer for each function with a docstring; none if the text is not Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources hold escapes that Python warns of
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deeply for the parser
        return
    lines = text.split("\n")
    for node in _functions(tree):
        answer = _first_paragraph(ast.get_docstring(node) or "")
        if answer and node.body[0].lineno > node.lineno:
            yield _question(node, lines), answer


def _functions(node: ast.AST) -> Iterator[Function]:
    """The functions below a node, by way of statements alone: expressions, which are most of a tree, hold none."""
    for name in _BLOCKS:
        for child in getattr(node, name, ()):
            if isinstance(child, Function):
                yield child
            yield from _functions(child)


def _first_paragraph(docstring: str) -> str:
    return re.split(r"\n[ \t]*\n", docstring.strip(), maxsplit=1)[0].rstrip()


def _question(node: Function, lines: list[str]) -> str:
    """Signature and first line of the body, unless that is the docstring's last: it would give the answer away."""
    docstring = node.body[0]
    signature = lines[node.lineno - 1 : docstring.lineno - 1]
    last = docstring.end_lineno or docstring.lineno
    first = [lines[node.body[1].lineno - 1]] if len(node.body) > 1 and node.body[1].lineno > last else []
    return textwrap.dedent("\n".join(signature + first)).strip("\n")


def write_pairs(folder: Path, parts: Iterable[dict[Split, list[Pair]]], seed: int) -> dict[Split, int]:
    """Write `train.jsonl` and `validation.jsonl`, shuffled by hash, and return how many pairs each has.

    No pair comes twice, and none is held out whose answer is also an answer to learn.
    """
    parts = list(parts)
    train = _distinct((pair for part in parts for pair in part["train"]), seed)
    learned = {_words(pair.answer) for pair in train.values()}
    held_out = _distinct(
        (pair for part in parts for pair in part["validation"] if _words(pair.answer) not in learned), seed
    )
    _write(folder / "train.jsonl", train, seed)
    _write(folder / "validation.jsonl", held_out, seed)
    return {"train": len(train), "validation": len(held_out)}


def _words(answer: str) -> str:
    """An answer without line breaks and capitals, which make no other answer of it."""
    return " ".join(answer.split()).casefold()


def _distinct(pairs: Iterable[Pair], seed: int) -> dict[int, Pair]:
    """Pairs by hash, in its order; of equal ones the one with the first origin."""
    distinct: dict[int, Pair] = {}
    for hash_, pair in sorted(((pair.hash(seed), pair) for pair in pairs), key=lambda item: (item[0], item[1].origin)):
        distinct.setdefault(hash_, pair)
    return distinct


def _write(path: Path, pairs: dict[int, Pair], seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for pair in pairs.values():
            file.write(json.dumps(pair.row(seed), ensure_ascii=False).encode("utf-8") + b"\n")
