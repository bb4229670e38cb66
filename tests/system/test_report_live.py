"""The live page in a real browser, while a real run trains."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from pipeline.runtime.files import append_json_line
from pipeline.stages.report.live import server
from tests.faults.runs import Job, small_corpus_folder, write_recipe
from tests.system.charts import LOSS, num_points, texts
from tests.system.chromium import Browser, Page
from tests.unit.stages.run_story import start_run, training_row
from tests.zygote import ROOT

STATUS = "document.querySelector('[role=status]')?.textContent"


def test_a_live_page_follows_a_run_without_being_loaded_again(browser: Browser, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "run.yaml", small_corpus_folder(tmp_path), duration={"steps": 100_000})
    with Job(recipe, 2) as job:
        job.wait_for_step(3)
        command = live(job.run)
        try:
            address = command.stdout.readline().split(" ")[0]
            page = browser.open(address)
            page.run("window.isTheSame = true")
            page.wait_until("document.querySelector('[role=status]')?.textContent === 'live'")
            drawn = num_points(page)
            page.wait_until(f"{steps_told(page)} > {drawn} + 20")
            assert page.run("window.isTheSame")
            assert num_points(page) > drawn
            assert {url for url in page.requests() if not url.startswith("data:")} == {address, f"{address}data"}
            assert page.errors() == []
            command.send_signal(signal.SIGINT)
            assert command.wait(60) == 130
            page.wait_until("document.querySelector('[role=status]').textContent.startsWith('the server has ended')")
        finally:
            command.kill()
            command.wait()
        job.send(signal.SIGKILL, 0)
        job.wait()


def test_a_live_page_of_a_run_that_has_not_begun_waits_for_it(browser: Browser, tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", tmp_path / "nothing")
    with served(run) as address:
        page = browser.open(address)
        assert texts(page, f"{LOSS} .read") == ["None yet."]
        append_json_line(run / "journal.jsonl", {"event": "start", "time": 1e9, "step": 0, "world_size": 2})
        append_json_line(run / "metrics.jsonl", training_row(5, 1e9 + 4))
        append_json_line(run / "metrics.jsonl", training_row(10, 1e9 + 6))
        page.wait_until(f"document.querySelector('{LOSS} path[data-name=training]') !== null")
        assert num_points(page) == 2
        assert texts(page, "#goodput h2")[0].startswith("Goodput: ")
        assert page.errors() == []


def test_an_answer_that_cannot_be_shown_is_told_and_the_page_asks_on(browser: Browser, tmp_path: Path) -> None:
    run = start_run(tmp_path / "run", tmp_path / "nothing")
    with served(run) as address:
        page = browser.open(address)
        page.wait_until(f"{STATUS} === 'live'")
        page.run("window.kept = prepare; prepare = () => { throw new TypeError('of the page'); }; version = ''")
        page.wait_until(f"{STATUS} === 'what came cannot be shown: TypeError: of the page'")
        page.run("prepare = window.kept")
        page.wait_until(f"{STATUS} === 'live'")


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a live page that this process serves."""
    with server(run, 0) as made:
        thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made.url
        finally:
            made.shutdown()
            thread.join()


def steps_told(page: Page) -> str:
    """A script whose value is the number of steps at the head."""
    return "Number(document.querySelector('.figures dd').textContent.split(' ')[0].replaceAll(',', ''))"


def live(run: Path) -> Any:
    """`tarmac report --live` as a user starts it."""
    words = ["-c", "import sys; from pipeline.cli import main; sys.exit(main())", "report", "--live", str(run)]
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
