from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from data_prep.dedup import phase
from data_prep.dedup.exact import Kept
from data_prep.dedup.near import NearDuplicates, find_near_duplicates
from data_prep.dedup.phase import deduplicate, source_reads
from data_prep.documents.rows import GONE, read_rows
from data_prep.documents.runs import DOCUMENTS_NAME
from data_prep.tasks.runner import Runner
from tests.unit.data_prep.reads import UPPER_MAX, Given, ReadByHand, counts, runner_for

DOCUMENTS = [
    Given(0, (number % 13) << 123 | number % 13, "a", number, b"text %d" % (number % 13)) for number in range(40)
]
SOURCES = {"b": DOCUMENTS[:20], "a": DOCUMENTS[20:30], "later": DOCUMENTS[30:]}


def read(runner: Runner, source: str, documents: Sequence[Given], label: str = "") -> Any:
    halves = (documents[: len(documents) // 2], documents[len(documents) // 2 :])
    tasks = [ReadByHand(source, f"{label}{number}", tuple(half)) for number, half in enumerate(halves)]
    return source_reads(source, runner.run(tasks, without=(DOCUMENTS_NAME,)))


def found(work: Path, sources: Mapping[str, Sequence[Given]], runner: Runner) -> dict[str, tuple[Kept, Any]]:
    reads = [read(runner, name, documents) for name, documents in sources.items()]
    result = deduplicate(reads, 40, True, NearDuplicates(), runner)
    return {
        name: (kept, sorted(read_rows([work / one.folder for one in gone], GONE, 0, UPPER_MAX).tolist()))
        for name, (kept, gone) in result.items()
    }


@pytest.mark.parametrize("range_documents", [1, 7, 1000])
def test_ranges_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, range_documents: int) -> None:
    expected = found(tmp_path / "one", SOURCES, runner_for(tmp_path / "one"))
    monkeypatch.setattr(phase, "_RANGE_DOCUMENTS", range_documents)
    runner = runner_for(tmp_path / "many")
    assert found(tmp_path / "many", SOURCES, runner) == expected
    assert counts(runner)["dedup"] == (-(-40 // range_documents), -(-40 // range_documents))
    assert [kept.documents for kept, _ in expected.values()] == [13, 0, 0]


def test_what_is_finished_is_not_done_again_though_the_texts_are_gone(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    expected = found(tmp_path, SOURCES, runner)
    for path in tmp_path.glob(f"read/*/{DOCUMENTS_NAME}"):
        path.unlink()
    again = runner_for(tmp_path)
    assert found(tmp_path, SOURCES, again) == expected
    assert counts(again) == {"read": (6, 0), "dedup": (1, 0)}


def test_a_source_appended_later_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    earlier = {name: SOURCES[name] for name in ("b", "a")}
    before = found(tmp_path, earlier, runner_for(tmp_path))
    after = found(tmp_path, SOURCES, runner_for(tmp_path))
    assert {name: after[name] for name in earlier} == before


def test_the_digest_is_that_of_the_contents_not_of_the_folders(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    one, two = (read(runner, "b", DOCUMENTS, label) for label in ("here", "there"))
    assert one.digest == two.digest
    assert one.folders != two.folders


@pytest.mark.parametrize(
    "change",
    [{"text": b"other"}, {"hash": 5}, {"origin": "b"}, {"position": 99}, {"metadata": b"{}"}, {"split": 1}],
    ids=str,
)
def test_whatever_changes_in_a_document_changes_the_digest(tmp_path: Path, change: dict[str, Any]) -> None:
    runner = runner_for(tmp_path)
    changed = [DOCUMENTS[0]._replace(**change), *DOCUMENTS[1:]]
    now, before = read(runner, "b", changed, "changed"), read(runner, "b", DOCUMENTS)
    assert now.documents_digest != before.documents_digest
    assert (now.digest == before.digest) == ("metadata" in change)


def test_metadata_alone_changes_no_task_of_deduplication(tmp_path: Path) -> None:
    runner = runner_for(tmp_path)
    before = read(runner, "a", DOCUMENTS)
    deduplicate([before], 40, True, find_near_duplicates([before], runner), runner)
    again = runner_for(tmp_path)
    after = read(again, "a", [one._replace(metadata=b'{"language":"en"}') for one in DOCUMENTS], label="with metadata")
    deduplicate([after], 40, True, find_near_duplicates([after], again), again)
    assert counts(again)["read"] == (2, 2)
    assert {phase: ran for phase, (_, ran) in counts(again).items() if phase != "read"} == {
        "links": 0, "clusters": 0, "near": 0, "dedup": 0,
    }  # fmt: skip
