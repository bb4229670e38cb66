"""Ctrl-C and SIGTERM while data is prepared."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import signal, sys
from pipeline.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a script starts in the background ignores it
    sys.exit(main(["prep", "config.yaml"]))
"""
CONFIG = """
stage: prep
output: out
sources: [{name: web, reader: {type: jsonl, paths: [a.jsonl]}}]
filters: [{type: custom, function: "slow:slow"}]
tokenizer: {type: train, vocab_size: 300}
workers: 2
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("everybody", [False, True])
def test_a_job_that_is_stopped_says_so(tmp_path: Path, number: signal.Signals, everybody: bool) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "some words " * 20}) + "\n")
    (tmp_path / "slow.py").write_text("import time\n\ndef slow(text, metadata):\n    time.sleep(60)\n")
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "job.py").write_text(COMMAND)
    job = subprocess.Popen(
        [sys.executable, "job.py"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    while not list(tmp_path.glob("out.work/read/*.partial")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    time.sleep(0.5)
    (os.killpg if everybody else os.kill)(job.pid, number)
    said, told = job.communicate(timeout=60)
    assert job.returncode == 128 + number
    assert said == ""
    assert told == (
        "stopping: 0 of 1 tasks of read web are finished\n"
        "tarmac: stopped; finished tasks are kept, give the same command to go on\n"
    )
    assert not list(tmp_path.glob("out.work/read/*.partial"))
