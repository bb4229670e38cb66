"""Several runs on one page."""

import shutil
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.runtime.files import append_json_line
from pipeline.stages.report import write_report
from pipeline.stages.report.charts import chart_data
from pipeline.stages.report.collect import collect, collect_all
from tests.unit.html_page import HtmlPage
from tests.unit.stages.run_story import tell_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs: the second has another learning rate, and a name that would be markup."""
    folder = tmp_path_factory.mktemp("stories")
    first = tell_run(folder / "runs" / "demo", folder / "corpus")
    second = first.with_name("<b>demo")
    shutil.copytree(first, second)
    text = (second / "config.yaml").read_text().replace("  lr: 0.06", "  lr: 0.03").replace(str(first), str(second))
    (second / "config.yaml").write_text(text)
    append_json_line(second / "journal.jsonl", {"event": "rollback", "time": 1_760_000_300.0, "step": 600,
                                                "from_step": 620, "skipped_steps": 20})  # fmt: skip
    return [first, second]


@pytest.fixture(scope="module")
def page(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> HtmlPage:
    return HtmlPage.read(write_report(runs, tmp_path_factory.mktemp("page") / "page.html"))


def test_the_page_is_whole_and_no_id_is_there_twice(page: HtmlPage) -> None:
    assert page.open == []
    assert page.needs_no_network()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_one_row_for_each_run(page: HtmlPage) -> None:
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 10}
    assert list(rows) == ["run", "demo", "<b>demo"]
    assert rows["demo"][:2] == ["600", "9.83 M"]
    assert rows["demo"][-2:] == ["1", "0"]
    assert rows["<b>demo"][-2:] == ["1", "1"]


def test_only_keys_that_differ_are_told(page: HtmlPage) -> None:
    start = page.rows.index(["key", "demo", "<b>demo"])
    assert page.rows[start + 1] == ["optimizer.lr", "0.06", "0.03"]
    assert page.rows[start + 2] == ["what", "took", "share"]  # the next table


def test_series_and_marks_know_their_run(runs: list[Path]) -> None:
    data = chart_data(collect_all(runs))
    assert [run["name"] for run in data["runs"]] == ["demo", "<b>demo"]
    loss = data["charts"][0]
    assert [(one["run"], one["name"]) for one in loss["series"]] == [
        (0, "training"), (0, "validation"), (1, "training"), (1, "validation"),
    ]  # fmt: skip
    assert [mark["run"] for mark in data["marks"] if mark["kind"] == "rollback"] == [1]
    step, tokens, seconds = data["runs"][0]["axis"][-1]
    assert (step, tokens) == (600, 600 * 64 * 256)
    assert seconds == pytest.approx(160 + 300 * 0.31)


def test_sources_corpora_parts_and_memory_have_charts_of_their_own(runs: list[Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[0], run)
    figures = {"train/loss/code": 2.0, "train/loss/web": 3.0, "perf/data_seconds": 0.1, "perf/memory_bytes": 1e9}
    append_json_line(run / "metrics.jsonl", {"step": 605, "time": 2e9, "train/loss": 2.5, **figures})
    append_json_line(run / "metrics.jsonl", {"step": 605, "time": 2e9, "validation/news/loss": 4.0})
    append_json_line(run / "ranks.jsonl", {"step": 605, "time": 2e9, "own_seconds": [1.0, 2.0, 4.0]})
    charts = {chart["id"]: chart["series"] for chart in chart_data([collect(run)])["charts"]}
    assert [(one["name"], one["points"]) for one in charts["sources"]] == [
        ("code", [(605, 2.0)]),
        ("web", [(605, 3.0)]),
    ]
    assert [(one["name"], one["points"]) for one in charts["corpora"]] == [("validation, news", [(605, 4.0)])]
    assert [one["name"] for one in charts["parts"]] == ["data"]
    assert [one["points"][-1][1] for one in charts["ranks"]] == [4.0, 2.0, 1.0]
    assert charts["memory"][0]["points"][-1] == (605, 1e9)


def test_runs_of_one_name_are_told_apart_by_their_paths(runs: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "demo"
    shutil.copytree(runs[0], other)
    assert [one.name for one in collect_all([runs[0], other])] == [str(runs[0]), str(other)]


def test_the_command_takes_several_runs(runs: list[Path], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *map(str, runs)]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    assert (tmp_path / "comparison.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "{corpus}"], "is a corpus, and only runs are compared or followed; report it alone"),
        (["--live", "{corpus}"], "is a corpus, and only runs are compared or followed"),
        (["{run}", "{run}"], "a run is given twice; give runs that differ"),
        (["--live", "{run}", "{run}"], "--live serves the page of one run and writes none; name one run"),
        (["--live", "{run}", "--output", "x.html"], "--live serves the page of one run and writes none"),
        (["--live", "{run}", "--port", "70000"], "--port 70000 is no port; give one up to 65535"),
        (["--live", "{corpus}-absent"], "does not exist; give the folder of a training run"),
    ],
)
def test_what_cannot_be_reported_is_one_sentence(runs: list[Path], words: list[str], said: str, capsys) -> None:
    known = {"run": runs[0], "corpus": runs[0].parents[1] / "corpus"}
    assert cli.main(["report", *(word.format(**known) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
