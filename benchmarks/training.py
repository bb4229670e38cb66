"""Training steps side by side: the same model, tokens, precision and batch, on CPU cores or on one CUDA device.

    .venv/bin/python -m benchmarks.training [--model 10M] [--length 512] [--steps 3] [--rounds 5] [--markdown]

All contenders are started at once and take turns: in each round each makes so many steps while the others wait. Figures
are medians, ratios are medians of the rounds' ratios, so that what slows the machine down for a while slows all.
Trainer needs accelerate: `pip install accelerate`; litgpt takes part where it is installed:
`pip install --no-deps litgpt lightning lightning-utilities torchmetrics jsonargparse`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import ONE_THREAD, machine, markdown_table, plain_table, run_alone, versions

NAMES = {
    "tarmac": "Tarmac",
    "tarmac-mixed": "Tarmac, documents not kept apart",
    "tarmac-mask": "Tarmac, sdpa with a dense mask",
    "bare": "bare PyTorch loop, the limit",
    "trainer-deepspeed": "transformers Trainer with DeepSpeed",
    "trainer": "transformers Trainer",
    "litgpt": "litgpt, documents not kept apart",
}
"""What the contenders are called in the table."""
TARGETS = {"bare": 0.97, "trainer-deepspeed": 1.3, "tarmac-mixed": 0.95}
"""How many times as fast as each Tarmac is to be, at least."""
OUTSIDE_TARGET = 0.02
"""Of a step, at most so much is to be spent outside forward, backward and optimizer."""
MODELS, LENGTHS = ("10M", "50M"), (512, 2048)


class Contender:
    """A process that makes steps when it is told to."""

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "benchmarks.training_contenders", name, *arguments]
        environment = {**os.environ, **ONE_THREAD, "OMP_NUM_THREADS": arguments[-1]}
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
            if not os.environ.get("VERBOSE") else None,
        )  # fmt: skip

    def make(self, num_steps: int) -> dict[str, Any] | None:
        """Seconds of so many steps; None if it has failed."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(f"{num_steps}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        answer: dict[str, Any] | None = json.loads(line) if line else None
        return answer

    def end(self) -> str:
        """End it; the last lines of what it said."""
        _, errors = self._process.communicate()
        return "\n".join((errors or "").splitlines()[-4:])


def main() -> None:
    """Measure what is asked for, print it, and write it as JSON."""
    options = _options()
    print(f"{machine()}; {versions(('torch', 'deepspeed', 'transformers', 'accelerate'))}\n", flush=True)
    table = markdown_table if options.markdown else plain_table
    found = []
    for model in options.model or MODELS:
        for length in options.length or LENGTHS:
            sequences = max(1, options.tokens // length)
            arguments = [model, str(length), str(sequences), options.precision, str(options.threads)]
            rounds = measure(options, arguments)
            figures = run_alone("benchmarks.training_contenders", ["figures", *arguments], num_cores=options.threads)
            head = f"{model}, L = {length}, {sequences} sequences, {options.precision}"
            rows = result(rounds, options.steps * sequences * length, figures)
            print(f"{head}\n\n{table(HEADER, [row_of(row) for row in rows])}\n", flush=True)
            found.append({"task": head, "rows": rows})
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": machine(), "tasks": found}, indent=1))


def measure(options: argparse.Namespace, arguments: list[str]) -> dict[str, list[dict[str, Any]]]:
    """What each contender answered in each round; one that fails says why and has none."""
    contenders = {name: Contender(name, arguments) for name in options.only or installed()}
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for number in range(options.rounds + 1):
        for name, contender in list(contenders.items()):
            answer = contender.make(options.steps if number else options.warm_up)
            if answer is None:
                print(f"{name} failed: {contenders.pop(name).end()}", file=sys.stderr)
                answers.pop(name)
            elif number:
                answers[name].append(answer)
    for contender in contenders.values():
        contender.end()
    return answers


def installed() -> list[str]:
    """Who can take part here."""
    return [name for name in NAMES if name != "litgpt" or find_spec("litgpt")]


HEADER = ("", "tokens/s", "lowest", "highest", "of the peak", "outside", "Tarmac is faster by", "wanted")


def result(rounds: dict[str, list[dict[str, Any]]], tokens: int, figures: dict[str, float]) -> list[dict[str, Any]]:
    """Figures of each contender: tokens/s, share of the measured matrix peak, of a step outside its parts, ratio."""
    rows = []
    for name, answers in rounds.items():
        speeds = [tokens / answer["seconds"] for answer in answers]
        outside = [1 - answer["parts"] / answer["seconds"] for answer in answers if answer["parts"]]
        pairs = zip(answers, rounds.get("tarmac", []), strict=False)
        ratios = [other["seconds"] / ours["seconds"] for other, ours in pairs]
        rows.append({
            "name": name, "speed": median(speeds), "lowest": min(speeds), "highest": max(speeds),
            "peak": median(speeds) * figures["flops"] / figures["peak"],
            "outside": median(outside) if outside else None, "ratio": median(ratios) if ratios else None,
        })  # fmt: skip
    return rows


def row_of(row: dict[str, Any]) -> list[str]:
    """The same for a table."""
    speeds = [f"{row[key]:,.0f}" for key in ("speed", "lowest", "highest")]
    outside = "" if row["outside"] is None else f"{row['outside']:.1%}"
    wanted = f"≥ {TARGETS[row['name']]}" if row["name"] in TARGETS else ""
    if row["name"] == "tarmac":
        return [NAMES["tarmac"], *speeds, f"{row['peak']:.0%}", outside, "", f"outside ≤ {OUTSIDE_TARGET:.0%}"]
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f} ×"
    return [NAMES[row["name"]], *speeds, f"{row['peak']:.0%}", outside, ratio, wanted]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", choices=["tiny", *MODELS], help="may be repeated (10M, 50M)")
    parser.add_argument("--length", action="append", type=int, help="tokens of a sequence; may be repeated (512, 2048)")
    parser.add_argument("--tokens", type=int, default=8192, help="tokens of a step (8,192)")
    parser.add_argument("--precision", choices=["bf16", "fp32"], default="bf16", help="bf16 or fp32 (bf16)")
    parser.add_argument("--threads", type=int, default=2, help="cores of a CPU (2)")
    parser.add_argument("--warm-up", type=int, default=3, help="steps that are not counted (3)")
    parser.add_argument("--steps", type=int, default=3, help="steps of each turn (3)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each has its turn (5)")
    parser.add_argument("--only", action="append", choices=NAMES, help="run this contender; may be repeated")
    parser.add_argument("--json", help="write the figures there, too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
