import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RunError
from pipeline.stages.report import write_report
from pipeline.stages.report.collect import collect
from pipeline.stages.report.page import key_figures
from tests.unit.html_page import HtmlPage
from tests.unit.stages.run_story import start_run, tell_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("story")
    return tell_run(folder / "runs" / "demo", folder / "corpus")


@pytest.fixture(scope="module")
def page(run: Path) -> HtmlPage:
    path = write_report([run])
    assert path == run / "report.html"
    return HtmlPage.read(path)


def data(page: HtmlPage) -> dict[str, Any]:
    (found,) = [text for tag, text in page.texts if tag == "script" and text.startswith("{")]
    return json.loads(found)


def test_the_page_is_whole_and_needs_no_network(page: HtmlPage) -> None:
    assert page.open == []
    assert page.needs_no_network()


def test_a_hostile_sample_stays_text(page: HtmlPage) -> None:
    assert "<script>alert(1)</script>" in [text for tag, text in page.texts if tag == "b"]
    assert "</pre></script><img src=x onerror=alert(2)>" in page.text()
    assert [text for tag, text in page.texts if tag == "script" and "alert" in text] == []


def test_hostile_names_and_sets_stay_text(run: Path, tmp_path: Path) -> None:
    hostile = tmp_path / "<script>x"
    shutil.copytree(run, hostile)
    row = {"step": 600, "time": 1.0, "set": "</script><b onclick=x>", "loss": 1.0, "perplexity": 2.7, "tokens": 3}
    (hostile / "evaluations.jsonl").write_text(json.dumps({**row, "bits_per_byte": 1.0, "unigram_loss": None}))
    page = HtmlPage.read(write_report([hostile]))
    assert page.open == []
    assert "<script>x" in [text for tag, text in page.texts if tag == "h1"]
    assert "evaluated on </script><b onclick=x>" in [mark["text"] for mark in data(page)["marks"]]
    assert not [attributes for _, attributes in page.tags if "onclick" in attributes]


def test_key_figures(run: Path) -> None:
    figures = dict(key_figures(collect(run)))
    assert figures["steps"] == "600 of 600"
    assert figures["tokens"] == "9.83 M"
    assert figures["parameters"] == "2.62 M"
    assert figures["ranks"] == "4"
    assert figures["time running"] == "3 min 43 s"  # 117 s to the last row at step 340, 106 s after the resume
    assert float(figures["training loss"]) == pytest.approx(2.1 + 0.9 * 2.71828**-2, abs=0.07)


def test_charts_hold_each_step_once_and_marks(page: HtmlPage) -> None:
    values = data(page)
    charts = {chart["id"]: chart for chart in values["charts"]}
    assert list(charts) == ["loss", "learning-rate", "gradient-norm", "throughput", "mfu", "memory"]
    assert [series["name"] for series in charts["loss"]["series"]] == ["training", "validation"]
    training, validation = (series["points"] for series in charts["loss"]["series"])
    assert [step for step, _ in training] == list(range(5, 601, 5))
    assert [step for step, _ in validation] == list(range(50, 601, 50))
    kinds = [(mark["kind"], mark["step"]) for mark in values["marks"]]
    assert kinds == [("save", step) for step in range(100, 601, 100)] + [("resume", 300)] + 2 * [("evaluation", 600)]


def test_sections_tell_the_history(page: HtmlPage) -> None:
    text = page.text()
    for expected in ("stdlib", "75.0%", "160 duplicate, 34 short", "2 → 4", "a kill or a crash", "0.384", "1,904"):
        assert expected in text, expected
    assert "no manifest.json; prepare it with `tarmac prep`" in text
    assert re.search(r"removed.*kept", text, re.S)
    assert "newton_schulz: standard" in text


def test_a_run_that_has_not_begun_says_none_yet(tmp_path: Path) -> None:
    folder = start_run(tmp_path / "runs" / "new", tmp_path / "nothing")
    (folder / "environment.json").unlink()
    page = HtmlPage.read(write_report([folder], tmp_path / "elsewhere.html"))
    assert (
        page.text().count("None yet.") == 8
    )  # charts, goodput, two tables of evaluations, checkpoints, restarts, samples, machine
    assert "not started" in page.text()
    assert not (folder / "report.html").exists()


def test_a_folder_that_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no config\.yaml; give the folder of a training run"):
        write_report([tmp_path])


def test_a_place_that_cannot_be_written_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be written \(No such file or directory\); choose another --output"):
        write_report([run], tmp_path / "absent" / "report.html")
