"""The benchmark for GPUs runs where there is none: what it measures there is no figure, that it does is the test."""

import json
import subprocess
import sys


def test_a_tiny_model_is_measured(tmp_path):
    program = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--json", str(tmp_path / "gpu.json")]
    numbers = ["--steps", "1", "--warm-up", "1", "--micro-batches", "2"]
    done = subprocess.run([*program, *numbers], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    (found,) = json.loads((tmp_path / "gpu.json").read_text())["results"]
    assert "error" not in found
    assert found["tokens_per_step"] == 2 * 512
    assert len(found["seconds"]) == 2
    assert 0 < found["mfu"] < found["of_measured_peak"] < 1
    assert f"{found['parameters']:,}" in done.stdout
