"""The report of real runs in a real browser: what it draws, how it is steered, and what it asks the network for."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.report import write_corpus_report
from pipeline.runtime.files import read_json_lines
from pipeline.stages.report import write_report
from tests.faults.runs import Job, losses, small_corpus_folder, write_recipe
from tests.system.charts import LOSS, axis, click, drag, focus, num_points, setting, texts
from tests.system.chromium import Browser, Page, install

STEPS = 60
SPIKES = {"action": "rollback", "window_steps": 16, "threshold": 8, "consecutive_steps": 3}
"""Noise in samples of steps 44 to 46 lets the run go back."""
FAULTY = {"faults": {"spikes": SPIKES}, "checkpoints": {"every_steps": 2, "keep_last": 6},
          "optimizer": {"type": "adamw", "lr": 0.003}, "evaluation": {"every_steps": 20, "max_sequences": 8},
          "duration": {"steps": STEPS}}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus_folder(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> list[Path]:
    """A run that was killed once and rolled back once, and one with another learning rate."""
    folder = tmp_path_factory.mktemp("runs")
    faulty = write_recipe(folder / "faulty.yaml", corpus, **FAULTY)
    for is_killed in (True, False):
        with Job(faulty, 2, call="tests.faults.injected:noisy", more=[43 * 8, 46 * 8]) as job:
            if is_killed:
                job.wait_for_step(25)
                job.send(signal.SIGKILL, 1)
                job.wait(60)
            else:
                job.done()
    plain = write_recipe(folder / "plain.yaml", corpus, optimizer={"type": "adamw", "lr": 0.001})
    with Job(plain, 2) as job:
        job.done()
    return [faulty.with_suffix(""), plain.with_suffix("")]


@pytest.fixture
def page(browser: Browser, runs: list[Path], tmp_path: Path) -> Iterator[Page]:
    """The page about the faulty run; whatever was done with it, nothing was wrong and nothing else was asked for."""
    path = write_report(runs[:1], tmp_path / "one.html")
    yield from opened(browser, path)


@pytest.fixture
def both(browser: Browser, runs: list[Path], tmp_path: Path) -> Iterator[Page]:
    """The page about both."""
    yield from opened(browser, write_report(runs, tmp_path / "both.html"))


def opened(browser: Browser, path: Path) -> Iterator[Page]:
    page = browser.open(path.as_uri())
    yield page
    assert page.errors() == []
    assert page.requests() == [path.as_uri()]


def test_every_step_is_a_point_and_what_happened_is_marked(page: Page, runs: list[Path]) -> None:
    assert num_points(page) == len(losses(runs[0])) == STEPS
    assert page.run(f"document.querySelectorAll('{LOSS} circle.c1').length") == 3  # evaluated at 20, 40, 60
    for kind, num in (("resume", 1), ("rollback", 1), ("spike", 1)):
        assert page.run(f"document.querySelectorAll('{LOSS} .mark.{kind}').length") == num
    titles = texts(page, "h3:has(.unit)")
    for title in ("Loss", "Learning rate", "Gradient norm", "Throughput", "Model FLOPs utilisation", "Parts of a step"):
        assert any(text.startswith(title) for text in titles), title
    assert page.run(
        "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('path.line, path.link'))"
    )


def test_a_line_is_where_its_values_are(page: Page, runs: list[Path]) -> None:
    """From the path back to losses: heights are proportional to what was logged."""
    path = page.run(f"document.querySelector('{LOSS} path[data-name=training]').getAttribute('d')")
    heights = [float(point.split(" ")[1]) for point in path.replace("L", "M").split("M")[1:]]
    values = list(losses(runs[0]).values())
    low, high = min(values), max(values)
    bottom, top = max(heights), min(heights)
    for height, value in zip(heights, values, strict=True):
        assert (bottom - height) / (bottom - top) == pytest.approx((value - low) / (high - low), abs=0.003)


def test_dragging_zooms_all_charts_and_a_double_click_goes_back(page: Page) -> None:
    whole = axis(page)
    drag(page, 0.5, 0.75)
    assert num_points(page) < STEPS / 2
    assert num_points(page, "MFU", "#chart-grid .chart:has(path[data-name=MFU])") == num_points(page)
    assert not page.run("document.getElementById('reset').disabled")
    click(page, f"{LOSS} .plot", clicks=2)
    assert (num_points(page), axis(page)) == (STEPS, whole)
    assert page.run("document.getElementById('reset').disabled")


def test_the_keyboard_moves_the_cursor_and_zooms(page: Page) -> None:
    focus(page)
    page.key("Home")
    page.key("ArrowRight")
    assert texts(page, f"{LOSS} .read") == ["step 2   checkpoint saved"]
    assert texts(page, "#said")[0].startswith("Loss, step 2   checkpoint saved: training ")
    page.key("+")
    assert num_points(page) < STEPS
    assert not page.run("document.getElementById('reset').disabled")
    page.key("Escape")
    assert num_points(page) == STEPS
    page.key("-")
    assert num_points(page) == STEPS


def test_a_legend_is_switched_by_mouse_and_by_keyboard(both: Page) -> None:
    def lines() -> list[str]:
        return both.run(
            f"[...document.querySelectorAll('{LOSS} path[data-name=training]')].map((one) => one.dataset.run)"
        )

    assert lines() == ["faulty", "plain"]
    click(both, "#toggles .run:first-child")
    assert lines() == ["plain"]
    assert both.run("document.querySelector('#toggles .run').getAttribute('aria-pressed')") == "false"
    focus(both, "#toggles .run:first-child")
    both.key(" ")
    assert lines() == ["faulty", "plain"]
    both.key("Tab")
    both.key("Enter")
    assert lines() == ["faulty"]
    click(both, f"{LOSS} .toggle.series:first-child")
    assert lines() == []


def test_the_axis_can_be_tokens_or_time_and_values_logarithmic(page: Page, runs: list[Path]) -> None:
    tokens = read_json_lines(runs[0] / "metrics.jsonl")[-1]
    setting(page, "axis", "tokens")
    assert num_points(page) == STEPS
    assert axis(page)[-1].endswith(" k")
    assert tokens["step"] == STEPS
    setting(page, "axis", "time")
    assert axis(page)[-1].endswith((" s", " min"))
    setting(page, "axis", "step")
    before = texts(page, f"{LOSS} text[text-anchor=end]")
    click(page, f"{LOSS} .toggle.log")
    assert num_points(page) == STEPS
    assert texts(page, f"{LOSS} text[text-anchor=end]") != before


def test_smoothing_draws_both_lines(page: Page) -> None:
    setting(page, "smoothing", "0.9")
    assert num_points(page) == STEPS
    assert page.run(f"document.querySelectorAll('{LOSS} path.raw').length") == 1


def test_the_table_has_the_numbers_of_the_chart(page: Page, runs: list[Path]) -> None:
    click(page, f"{LOSS} summary")
    page.wait_until(f"document.querySelectorAll('{LOSS} tbody tr').length === {STEPS}")
    last = losses(runs[0])[STEPS]
    assert texts(page, f"{LOSS} tbody tr:last-child td")[:2] == [str(STEPS), f"{last:.4g}".ljust(5, "0")]


@pytest.mark.parametrize("width", [320, 360, 768])
def test_a_narrow_screen_has_no_overflow(both: Page, width: int) -> None:
    both.resize(width, 800)
    both.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    both.wait_until(f"document.querySelector('{LOSS} .plot').viewBox.baseVal.width < {width}")
    assert both.run("document.documentElement.scrollWidth") == width
    assert num_points(both) == STEPS


def test_dark_is_dark_by_the_system_and_by_the_button(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    path = write_report(runs[:1], tmp_path / "page.html").as_uri()
    ground = "getComputedStyle(document.body).backgroundColor"
    line = f"getComputedStyle(document.querySelector('{LOSS} path.line')).stroke"
    light, dark = browser.open(path), browser.open(path, dark=True)
    for colour in (ground, line):
        assert light.run(colour) != dark.run(colour)
    assert sum(map(int, dark.run(ground)[4:-1].split(","))) < 200 < sum(map(int, light.run(ground)[4:-1].split(",")))
    for _ in range(2):
        click(light, "#theme")
    assert light.run(ground) == dark.run(ground)
    assert light.errors() == dark.errors() == []


def test_everything_that_acts_can_be_reached_by_tab_and_has_a_name(page: Page) -> None:
    reached = set()
    for _ in range(page.run("document.querySelectorAll('button, select, input, summary, [tabindex]').length") + 5):
        page.key("Tab")
        reached.add(page.run("document.activeElement.className?.baseVal ?? document.activeElement.id"))
    assert {"plot", "theme", "axis", "smoothing"} <= reached
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    acting = [
        one for one in nodes if one.get("role", {}).get("value") in ("button", "combobox", "slider", "application")
    ]
    assert len(acting) > 20
    assert [one for one in acting if not one.get("name", {}).get("value")] == []


def test_the_page_of_a_corpus_is_whole_too(browser: Browser, corpus: Path, tmp_path: Path) -> None:
    path = write_corpus_report(corpus, tmp_path / "corpus.html")
    page = browser.open(path.as_uri(), 360, 800)
    assert page.run("document.documentElement.scrollWidth") == 360
    for expected in ("Light", "Dark", "Auto"):
        click(page, "#theme")
        assert texts(page, "#theme") == [expected]
    assert page.errors() == []
    assert page.requests() == [path.as_uri()]


def test_without_chromium_and_root_it_is_told_what_is_missing(monkeypatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(RuntimeError, match="chromium is missing, and only root on Debian can install it"):
        install()


def test_a_hostile_page_runs_nothing(browser: Browser, runs: list[Path], tmp_path: Path) -> None:
    """Were anything left unescaped, the page's policy would still let no script run but its own."""
    path = write_report(runs[:1], tmp_path / "page.html")
    bad = '<img src="data:," onerror="window.hit = 1"><script>window.hit = 2</script></main>'
    path.write_text(path.read_text().replace("</main>", bad))
    page = browser.open(path.as_uri())
    assert page.run("window.hit") is None
    assert num_points(page) == STEPS
    assert any("Content Security Policy" in error for error in page.errors())
