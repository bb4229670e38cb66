"""The training benchmark runs: of a tiny model no figure means anything, that all contenders train is the test."""

import json
import subprocess
import sys

from benchmarks.training import installed


def test_all_contenders_train_a_tiny_model(tmp_path):
    program = [sys.executable, "-m", "benchmarks.training", "--model", "tiny", "--length", "64", "--tokens", "128"]
    numbers = ["--steps", "1", "--rounds", "2", "--warm-up", "1", "--json", str(tmp_path / "training.json")]
    done = subprocess.run([*program, *numbers], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    (task,) = json.loads((tmp_path / "training.json").read_text())["tasks"]
    rows = {row["name"]: row for row in task["rows"]}
    assert list(rows) == installed(), done.stderr[-3000:]
    assert all(0 < row["lowest"] <= row["speed"] <= row["highest"] for row in rows.values())
    assert rows["tarmac"]["ratio"] == 1
    assert 0 < rows["tarmac"]["outside"] < 1
