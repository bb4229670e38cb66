"""Copies of checkpoints in an object store, spoken to over the real protocol by processes that are killed."""

import hashlib
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.engine.checkpoint import copies as copies_module
from pipeline.engine.checkpoint.commit import COMMIT_NAME, Commit, FileRecord, commit, read_commit, step_name
from pipeline.engine.checkpoint.copies import RUN_FILES
from pipeline.engine.checkpoint.fetching import copied, fetch_checkpoint
from pipeline.engine.checkpoint.upload import Uploader
from pipeline.stages.verify import verify
from tests.integration.conftest import ROOT, Command, rows, write_recipe
from tests.integration.flawed_proxy import Flaw, FlawedProxy
from tests.unit.engine.test_upload import contents, write_checkpoint

SECRET = "the-secret-of-someone"
URL = "s3://crawl/run"
UPLOAD = """
import sys
from pathlib import Path
from pipeline.engine.checkpoint.upload import Uploader
uploader = Uploader(Path(sys.argv[1]), sys.argv[2], lambda event, **details: None, lambda commit: True)
uploader.offer(int(sys.argv[3]))
sys.stdin.readline()
print(uploader.finish(float(sys.argv[4])), flush=True)
"""


class UploadProxy(FlawedProxy):
    """Requests that bring something can fail too, or be held up on their way."""

    def __init__(self, upstream: str) -> None:
        self.put_flaws: dict[str, list[Flaw]] = {}
        """End of a path -> what happens to the first that bring it."""
        self.puts: Counter[str] = Counter()
        """How often each was brought, by the end of its path."""
        self.hold_from = 0
        """The first of all puts that is held up until `let_go`; 0: none."""
        self.held = threading.Event()
        self.spoil: dict[str, Any] = {}
        """End of a path -> what is called before the first look at it."""
        super().__init__(upstream)

    def flaw(self, method: str, path: str) -> Flaw | None:
        if method == "HEAD":
            for end in [end for end in self.spoil if path.endswith(end)]:
                self.spoil.pop(end)()
        if method != "PUT":
            return super().flaw(method, path)
        with self._lock:
            self.puts[path.removeprefix("/crawl/run/").partition("/")[2]] += 1
            is_held = 0 < self.hold_from <= self.puts.total()
            flaw = next((flaws.pop(0) for end, flaws in self.put_flaws.items() if path.endswith(end) and flaws), None)
        if is_held:
            self.held.set()
            self.let_go.wait()
        return flaw


@pytest.fixture
def proxy(bucket: fsspec.AbstractFileSystem, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadProxy]:
    """In front of the bucket `crawl`."""
    proxy = UploadProxy(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(copies_module, "FIRST_PAUSE_SECONDS", 0.01)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield proxy
    proxy.close()


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    return tmp_path / "run/checkpoints"


class Told:
    """An uploader, and what it tells."""

    def __init__(self, checkpoints: Path) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.told = threading.Semaphore(0)
        self.uploader = Uploader(checkpoints, URL, self.tell, lambda record: True)

    def tell(self, event: str, **details: Any) -> None:
        self.events.append((event, details))
        self.told.release()

    def send(self, step: int) -> tuple[str, dict[str, Any]]:
        self.uploader.offer(step)
        assert self.told.acquire(timeout=60)
        return self.events[-1]


def fetched(folder: Path) -> dict[str, bytes]:
    """The newest copy."""
    shutil.rmtree(folder, ignore_errors=True)
    return contents(fetch_checkpoint(URL, folder))


def test_what_passes_is_tried_again_and_what_does_not_ends_no_run(
    proxy: UploadProxy, bucket: fsspec.AbstractFileSystem, checkpoints: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    first, second = write_checkpoint(checkpoints, 7), write_checkpoint(checkpoints, 8, "b")
    told = Told(checkpoints)
    with caplog.at_level(logging.DEBUG):
        proxy.put_flaws = {"rank-00001": ["busy"] * 8}
        event, details = told.send(7)
        assert event == "upload_failed"
        said = r"s3://crawl/run/step-00000007/state/rank-00001 cannot be sent after 8 attempts \(.*credentials"
        assert re.match(said, details["reason"])
        assert copied(URL) == []
        proxy.put_flaws = {"rank-00002": ["busy", "reset"], "index.json": ["reset"], COMMIT_NAME: ["busy"]}
        spoiled = "crawl/run/step-00000008/state/rank-00003"
        proxy.spoil["step-00000008/state/rank-00003"] = lambda: bucket.pipe(spoiled, b"short")
        event, details = told.send(8)
        assert (event, details["bytes"]) == ("upload", sum(map(len, contents(second).values())))
    assert told.uploader.finish(60)
    assert not any(proxy.put_flaws.values())
    assert not proxy.spoil
    assert "step-00000008/state/rank-00003: attempt 1 of 8 failed (5 bytes are there, should be 40)" in caplog.text
    assert caplog.text.count("step 7  has no copy: s3://crawl/run/step-00000007") == 1
    assert SECRET not in caplog.text + str(told.events)
    assert copied(URL) == [read_commit(second)]
    proxy.flaws = {"rank-00001": ["truncated", "forged", "busy"], COMMIT_NAME: ["busy"]}
    assert fetched(tmp_path / "new") == contents(second)
    assert not proxy.flaws["rank-00001"]
    told = Told(checkpoints)
    told.send(7)
    assert contents(fetch_checkpoint(URL, tmp_path / "new", 7)) == contents(first)


def start(checkpoints: Path, step: int, seconds: float) -> "subprocess.Popen[str]":
    """A process that sends a checkpoint, and gives it some seconds once it is told so."""
    command = [sys.executable, "-c", UPLOAD, str(checkpoints), URL, str(step), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def test_a_process_that_is_killed_leaves_no_copy_or_a_whole_one(
    proxy: UploadProxy, bucket: fsspec.AbstractFileSystem, checkpoints: Path, tmp_path: Path
) -> None:
    """It is killed in its first, second, … upload of a file, of eight; the next process sends what lacks, no more."""
    for number in (1, 2, 5, 8, 9):
        here = write_checkpoint(checkpoints, number, str(number))
        proxy.let_go, proxy.held, proxy.hold_from = threading.Event(), threading.Event(), number
        proxy.puts.clear()
        process = start(checkpoints, number, 60)
        tell(process)
        while not proxy.held.wait(0.05) and process.poll() is None:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == (0 if number == 9 else -signal.SIGKILL)
        proxy.hold_from = 0
        proxy.let_go.set()  # what the dead one sent may still arrive
        if number in [record.step for record in copied(URL)]:
            assert number >= 8
            assert fetched(tmp_path / "killed") == contents(here)
        there = {path.removeprefix(f"crawl/run/{step_name(number)}/")
                 for path in bucket.find(f"crawl/run/{step_name(number)}")} - {COMMIT_NAME}  # fmt: skip
        sent = proxy.puts.copy()
        told = Told(checkpoints)
        told.uploader.offer(number)
        assert told.uploader.finish(60)
        assert fetched(tmp_path / "new") == contents(here)
        assert {name: proxy.puts[name] for name in there} == {name: sent[name] for name in there}


def test_the_end_of_a_run_does_not_wait_for_a_server_that_does_not_answer(
    proxy: UploadProxy, checkpoints: Path
) -> None:
    write_checkpoint(checkpoints, 7)
    proxy.hold_from = 3
    process = start(checkpoints, 7, 0.5)
    assert proxy.held.wait(60)
    tell(process)
    assert process.communicate(timeout=20)[0] == "False\n"
    assert process.returncode == 0
    told = Told(checkpoints)
    told.uploader.offer(7)
    begun = time.monotonic()
    assert not told.uploader.finish(0.5)
    assert time.monotonic() - begun < 5
    assert told.events == [("upload_failed", {"step": 7, "reason": "it was not sent within 0.5 s"})]


def test_a_checkpoint_that_is_replaced_while_it_is_sent_is_not_mixed(proxy: UploadProxy, checkpoints: Path) -> None:
    write_checkpoint(checkpoints, 7, "a")
    told = Told(checkpoints)
    proxy.hold_from = 4
    told.uploader.offer(7)
    assert proxy.held.wait(60)
    here = write_checkpoint(checkpoints, 7, "b", branch=1)  # a rollback has been, and the run is at step 7 again
    proxy.let_go.set()
    assert told.told.acquire(timeout=60)
    assert told.events[0][0] == "upload_failed"
    assert copied(URL) == []
    assert told.send(7)[0] == "upload"
    assert copied(URL) == [read_commit(here)]


def test_a_large_file_goes_in_parts(proxy: UploadProxy, checkpoints: Path, tmp_path: Path) -> None:
    content = os.urandom(105 << 20)
    partial = checkpoints / f"{step_name(7)}.partial"
    partial.mkdir(parents=True)
    (partial / "large").write_bytes(content)
    record = FileRecord("large", len(content), hashlib.sha256(content).hexdigest())
    here = commit(partial, Commit(7, 1, 0, {}, {}, (record,)))
    proxy.put_flaws = {"large": ["busy"]}
    assert Told(checkpoints).send(7)[0] == "upload"
    assert proxy.puts["large"] > 3
    assert contents(fetch_checkpoint(URL, tmp_path / "new")) == contents(here)


def test_a_run_whose_folder_is_lost_goes_on_from_its_copy(
    proxy: UploadProxy, corpus: Path, forked: Command, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = write_recipe(tmp_path / "recipe.yaml", corpus, run)
    forked("train", recipe)
    last = read_commit(run / "checkpoints" / step_name(12))
    assert Told(run / "checkpoints").send(8)[0] == "upload"
    shutil.rmtree(run)
    assert fetch_checkpoint(URL, run / "checkpoints").name == step_name(8)
    assert {path.name for path in run.iterdir()} == {"checkpoints", *RUN_FILES}
    forked("train", recipe)
    events = rows(run / "journal.jsonl")
    assert [event["step"] for event in events if event["event"] == "resume"] == [8]
    again = read_commit(run / "checkpoints" / step_name(12))
    assert again.files == last.files  # to the bit
    assert verify(run) == 0
