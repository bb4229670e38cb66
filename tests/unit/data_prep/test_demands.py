from pathlib import Path
from typing import Any

import pytest

from data_prep.dedup.exact import Kept
from data_prep.documents.document import BrokenRecord
from data_prep.documents.split import Extremes
from data_prep.reading.demands import losses, require_documents, require_good_records, total
from data_prep.reading.losses import LossWriter
from data_prep.reading.task import ReadResult
from data_prep.tasks.store import Done
from pipeline.config.prep.recipe import Source
from pipeline.errors import CorpusError


def source(**values: Any) -> Source:
    return Source.model_validate({"name": "web", "reader": {"type": "stdlib"}, **values})


def write_rejects(folder: Path, *lines: tuple[str, int, str, str]) -> None:
    with LossWriter(folder, False) as losses:
        for origin, position, reason, detail in lines:
            losses.reject(BrokenRecord(reason, origin, position, detail))


def done(read: int, size: int = 0, lost: int = 0, **counts: dict[str, int]) -> Done:
    empty: dict[str, dict[str, int]] = {"rejected": {}, "dropped": {}, "skipped": {}}
    figures = {"read": read, "text_bytes": 0, "kept": 0, "inputs": {}, "bytes": size, "lost_bytes": lost}
    return Done("", (), ReadResult(**figures, **{**empty, **counts}))  # type: ignore[arg-type]


def test_counts_are_added_by_name() -> None:
    assert total([{"b": 1}, {}, {"a": 2, "b": 3}]) == {"a": 2, "b": 4}
    assert list(total([{"b": 1, "a": 1}])) == ["a", "b"]


def test_bad_records_up_to_the_share_are_passed_over(tmp_path: Path) -> None:
    require_good_records(source(), [done(60, rejected={"broken_json": 3}), done(40, rejected={"no_text": 2})], tmp_path)
    require_good_records(source(max_rejected_share=0), [done(100)], tmp_path)
    require_good_records(source(max_rejected_share=1), [done(1, rejected={"no_text": 1})], tmp_path)


def test_more_bad_records_are_told_with_reasons_and_cure(tmp_path: Path) -> None:
    write_rejects(tmp_path, ("a/b.jsonl", 7, "no_text", "text is not there"), ("c.jsonl", 1, "broken_json", ""))
    reads = [done(60, rejected={"no_text": 1}), done(40, rejected={"broken_json": 4, "no_text": 1})]
    sentence = (
        r"source 'web': 6 of 100 records are bad \(broken_json 4, no_text 2\), more than max_rejected_share \(0\.05\)"
        r" allows; the first is record 7 of a/b\.jsonl \(no_text, text is not there\), and more are in"
        rf" {tmp_path}/rejects\.jsonl; mend the inputs"
    )
    with pytest.raises(CorpusError, match=sentence):
        require_good_records(source(), reads, tmp_path)


def test_bytes_lost_where_records_cannot_be_counted_are_seen(tmp_path: Path) -> None:
    write_rejects(tmp_path, ("a.gz", 7, "cut_short", ""))
    stretch = {"cut_short": 1}
    require_good_records(source(), [done(100, 900, 50, rejected=stretch), done(100, 100)], tmp_path)
    sentence = (
        r"2 of 201 records are bad \(cut_short 2\), and with them about 51 of 1000 bytes are lost, more than max_r"
    )
    with pytest.raises(CorpusError, match=sentence):
        require_good_records(
            source(), [done(100, 900, 50, rejected=stretch), done(101, 100, 1, rejected=stretch)], tmp_path
        )


def test_a_source_with_documents_left_is_well() -> None:
    require_documents("web", [done(1)], Kept(extremes=Extremes((0, 0, 1))))


def test_a_source_of_which_nothing_is_left_is_told_with_all_reasons() -> None:
    reads = [done(9, rejected={"no_text": 1}, dropped={"short:words": 2}), done(0, skipped={"metadata": 3})]
    sentence = (
        r"source 'web' yields no document \(9 read; no_text 1, metadata 3, short:words 2, duplicate 4,"
        r" near_duplicate 5\); give it other inputs"
    )
    with pytest.raises(CorpusError, match=sentence):
        require_documents("web", reads, Kept(exact=4, near=5))
    with pytest.raises(CorpusError, match=r"\(0 read; nothing was read\)"):
        require_documents("web", [done(0)], Kept())


def test_what_deduplication_drops_is_told_by_reason() -> None:
    assert losses(Kept(exact=4)) == {"duplicate": 4}
    assert losses(Kept(near=5)) == {"near_duplicate": 5}
