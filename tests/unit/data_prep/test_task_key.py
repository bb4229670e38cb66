import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.tasks import code
from data_prep.tasks.code import code_identity, difference
from tests.unit.data_prep.write_task import OtherPhase, Place, Settings, WriteTask


@pytest.mark.parametrize(
    "change",
    [
        {"settings": Settings(limit=2)},
        {"settings": Settings(name="y")},
        {"places": (Place("first"), Place("third"))},
        {"places": (Place("second"), Place("first"))},
        {"places": (Place("first"),)},
        {"number": 1},
        {"share": 0.5000001},
        {"note": ""},
    ],
    ids=str,
)
def test_each_field_changes_the_key(change: dict[str, Any]) -> None:
    assert replace(WriteTask(), **change).key != WriteTask().key
    assert replace(WriteTask(), **change).key == replace(WriteTask(), **change).key


def test_where_inputs_lie_does_not_change_the_key() -> None:
    moved = WriteTask(where="there", places=(Place("first", "a"), Place("second", "b")))
    assert moved.key == WriteTask().key


def test_the_phase_is_part_of_the_key() -> None:
    assert OtherPhase().key != WriteTask().key


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=2, max_size=2))
def test_keys_are_equal_just_when_the_fields_are(pairs: list[tuple[str, str]]) -> None:
    one, two = (WriteTask(places=tuple(Place(text) for text in texts)) for texts in pairs)
    assert (one.key == two.key) == (one == two)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes modules of a package of ours named `mine`."""
    (tmp_path / "mine" / "choices").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(code, "_OURS", ("mine",))
    monkeypatch.setattr(code, "_LEFT_OUT", ("mine.left_out",))
    monkeypatch.setattr(code, "_CHOICES", {"mine.choices": "mine.choices"})

    def write(name: str, source: str) -> None:
        (tmp_path / "mine" / f"{name}.py").write_text(source)

    for name in ("__init__", "by_name", "in_function", "far", "left_out", "unused", "choices/choice", "common"):
        write(name, "value = 1\n")
    write("start", "import json\nimport numpy.linalg\nfrom mine import by_name\nfrom mine.near import value\n")
    inner = "        import mine.in_function\n    except OSError:\n        from mine.far import value\n"
    write("near", f"import mine.left_out\nimport mine.choices\n\ndef f():\n    try:\n{inner}\nvalue = 1\n")
    write("choices/__init__", "from mine.choices import choice\nfrom mine.common import value\n")
    yield write
    for name in [name for name in sys.modules if name.startswith("mine")]:
        del sys.modules[name]


def fresh_identity(module: str) -> dict[str, str]:
    return code_identity.__wrapped__((module,))


@pytest.mark.parametrize(
    "name", ["start", "by_name", "near", "in_function", "far", "__init__", "choices/__init__", "common"]
)
def test_what_is_imported_however_far_changes_the_code(package: Callable[[str, str], None], name: str) -> None:
    before = fresh_identity("mine.start")
    assert fresh_identity("mine.start") == before
    old = (Path(sys.path[0]) / "mine" / f"{name}.py").read_text()
    package(name, old + "# another byte\n")
    assert fresh_identity("mine.start")["code"] != before["code"]


@pytest.mark.parametrize("name", ["unused", "left_out", "choices/choice"])
def test_other_modules_do_not(package: Callable[[str, str], None], name: str) -> None:
    before = fresh_identity("mine.start")
    package(name, "value = 2\n")
    assert fresh_identity("mine.start") == before


def test_what_a_task_chooses_is_part_of_it(package: Callable[[str, str], None]) -> None:
    before = code_identity.__wrapped__(("mine.start", "mine.choices.choice"))
    package("choices/choice", "value = 2\n")
    assert code_identity.__wrapped__(("mine.start", "mine.choices.choice")) != before


def test_a_package_of_another_name_than_its_distribution(package: Callable[[str, str], None]) -> None:
    package("far", "import yaml\n")
    assert "PyYAML" in fresh_identity("mine.start")


def test_versions_of_libraries_are_part_of_it(package: Callable[[str, str], None]) -> None:
    identity = fresh_identity("mine.start")
    assert set(identity) == {"code", "python", "unicode", "numpy"}
    assert identity["numpy"] == np.__version__
    package("far", "import zstandard\nimport not_installed\n")
    assert set(fresh_identity("mine.start")) == {"code", "python", "unicode", "numpy", "zstandard"}


def test_a_difference_is_told_in_words() -> None:
    planned = {"code": "0", "python": "3.11.7", "numpy": "2.0", "rensa": "1.0"}
    assert difference(planned, planned) == ""
    assert difference(planned, {"code": "1", "python": "3.11.7", "numpy": "2.1", "orjson": "3.9"}) == (
        "another version of Tarmac's code, numpy 2.1 instead of 2.0, orjson 3.9 instead of none,"
        " rensa is missing instead of 1.0"
    )


def test_a_real_task_runs_code_of_the_lower_floors() -> None:
    sources, libraries = code._collect(["data_prep.pairs"])
    ours = {f"data_prep.documents.{name}" for name in ("document", "runs", "rows", "source", "split")}
    assert ours | {"pipeline.corpus.manifest", "pipeline.runtime.files"} <= set(sources)
    assert {"numpy", "xxhash", "zstandard"} <= libraries
    left_out = ("data_prep.tasks", "pipeline.config", "pipeline.errors")
    assert not [name for name in sources if name.startswith(left_out)]
