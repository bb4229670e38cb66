import io
from pathlib import Path

import pytest
from rich.console import Console

from data_prep.reading.task import ReadResult
from data_prep.report.table import print_speed, print_table, timing
from data_prep.tasks.store import Done
from pipeline.corpus.manifest import read_manifest
from tests.unit.data_prep.corpus_story import tell_corpus
from tests.unit.data_prep.reads import runner_for


def read(number: int, text_bytes: int) -> Done:
    return Done(f"read/{number}", (), ReadResult(1, text_bytes, 1, {}, {}, {}, {}))


@pytest.mark.parametrize(
    ("ran", "told", "megabytes"),
    [({"read/0", "read/1"}, "2.50 MB/s", 2.5), ({"read/1"}, "1.50 MB/s", 1.5), (set(), "nothing was read", None)],
)
def test_speed_is_that_of_what_this_run_read(tmp_path: Path, ran: set[str], told: str, megabytes: float | None) -> None:
    """After a resume or an append the rest was read before."""
    runner = runner_for(tmp_path)
    runner.seconds = {"read": 1.0, "shards": 3.0}
    runner.tasks["read"], runner.ran["read"] = {"read/0", "read/1"}, ran
    figures = timing(runner, [read(0, 4_000_000), read(1, 6_000_000)])
    assert figures["megabytes_per_second"] == megabytes
    assert (figures["tasks"], figures["tasks_run"]) == ({"read": 2}, {"read": len(ran)})
    said = io.StringIO()
    print_speed(Console(file=said, width=200), figures)
    assert said.getvalue() == f"4.0 s, {told} with 1 worker; {len(ran)} of 2 tasks run\n"


def test_losses_are_summed_by_step_in_the_order_of_the_config(tmp_path: Path) -> None:
    manifest = read_manifest(tell_corpus(tmp_path / "corpus"))
    figures = manifest.statistics["sources"]["web"]
    figures["dropped"] |= {f"language:{letter}": 10 + number for number, letter in enumerate("abcdefg")}
    said = io.StringIO()
    print_table(Console(file=said, width=80), manifest, {})
    web = [line for line in said.getvalue().splitlines() if line.startswith("web: ")]
    assert web == [
        "web: skipped 1,000 (request 1,000)",
        "web: rejected 42 (json 30, encoding 12)",
        "web: url 3 (domain 3)",
        "web: language 91 (g 16, f 15, e 14, d 13, c 12, 2 more)",
        "web: gopher_quality 2,500 (too_short 2,000, symbols 500)",
        "web: exact duplicates 958",
        "web: near-duplicates 497",
    ]
    assert "code: nothing was dropped" in said.getvalue()
    assert "…" not in said.getvalue()
