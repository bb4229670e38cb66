from typing import Any

import pytest

from benchmarks.data_prep_scale import num_reading_tasks, opening_hours, scale_rows
from benchmarks.data_prep_text import Text

TEXT = Text("folder", 100, 20_000, 100_000_000, "somewhere", "0")


def run_of(**phases: float) -> dict[str, Any]:
    sizes = {"documents_bytes": 40_000_000, "row_bytes": 5_000_000, "shard_bytes": 53_000_000}
    return {"phases": phases, "kept": 20_000, "tokens": 25_000_000, **sizes}


def test_ten_terabytes() -> None:
    run = run_of(read=4.0, links=1.0, shards=3.6, tokenizer=60.0, encoder=60.0)
    rows = {name: (hours, terabytes) for name, hours, terabytes in scale_rows(10e12, TEXT, [run])}
    assert rows["read phase"] == ("111", "")
    assert rows["shards phase"] == ("100", "")
    assert not {"tokenizer phase", "encoder phase"} & rows.keys()
    assert rows["shards"] == ("", "5.30")
    # 18,626 shards, 954 tasks that deduplicate and 6,676 that link; 4,657 reading tasks; 0.3 ms
    assert rows["26,256 later tasks look into 4,657 reading tasks"] == ("10", "")
    assert rows["all phases"] == ("249", "")


def test_what_each_task_looks_into_grows_with_the_square() -> None:
    run = run_of(read=1.0, shards=1.0)
    small, large = (opening_hours(size, size / TEXT.text_bytes, run) for size in (1e10, 1e11))
    assert large == pytest.approx(100 * small)
    with_links = opening_hours(1e11, 1000, run_of(read=1.0, links=1.0, shards=1.0))
    assert with_links > 1.3 * large


def test_there_are_never_more_reading_tasks_of_a_source_than_planned() -> None:
    assert num_reading_tasks(1 << 30) == 64
    assert num_reading_tasks(1e13) == num_reading_tasks(5e12)
