"""Whether models learn as well as is published: `python -m benchmarks.known_answers DATA [--only NAME] [--folder W]`.

DATA holds `tinyshakespeare/input.txt` and `british_fiction/*.txt`. Each answer is prepared, trained and evaluated by
the recipes that ship, in the folder W (a temporary one if not given); one that is there goes on. Losses are nats per
token of the whole held-out split. The program fails if a target is missed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

RECIPES = Path(__file__).parents[1] / "configs"
TRAINED_SHARE = 0.9
"""nanoGPT's split: so much of the text, from its beginning, is trained on."""


@dataclass(frozen=True)
class Answer:
    """A recipe and what it must reach."""

    name: str
    """Of both recipes' output folders, and of the run."""
    prep: str
    pretrain: str
    sequence_length: int
    lay_out: Callable[[Path, Path], None]
    """Brings the data into the folder where the recipe reads it."""
    most_nats: float | None = None
    """Published."""
    most_of_unigram: float | None = None
    """Share of the unigram baseline's loss on the same tokens."""


def lay_out_shakespeare(data: Path, work: Path) -> None:
    """Write both parts of tinyshakespeare to where its recipe reads them, below `work`."""
    text = (data / "tinyshakespeare" / "input.txt").read_bytes().decode("ascii")
    cut = int(len(text) * TRAINED_SHARE)
    folder = work / "raw" / "shakespeare"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", text[:cut]), ("validation", text[cut:])):
        (folder / f"{name}.txt").write_text(part, encoding="ascii", newline="")


def _novels(data: Path, work: Path) -> None:
    shutil.copytree(data / "british_fiction", work / "raw" / "novels", dirs_exist_ok=True)


ANSWERS = (
    Answer("shakespeare_char", "shakespeare_char", "shakespeare_char", 64, lay_out_shakespeare, most_nats=1.88),
    Answer(
        "shakespeare_char_large",
        "shakespeare_char",
        "shakespeare_char_large",
        256,
        lay_out_shakespeare,
        most_nats=1.4697,
    ),
    Answer("mlm_small", "masked_small", "mlm_small", 64, _novels, most_of_unigram=0.9),
)
LONG = ("shakespeare_char_large",)
"""Run only by name: hours on a CPU."""


def run(answer: Answer, data: Path, work: Path) -> dict[str, Any]:
    """Prepare, train and evaluate; returns what `tarmac eval` wrote of it, and the seconds of training."""
    if not (work / "data" / answer.prep).exists():
        answer.lay_out(data, work)
        _tarmac(work, "prep", RECIPES / "data_prep" / f"{answer.prep}.yaml")
    start = time.perf_counter()
    _tarmac(work, "train", RECIPES / "pretrain" / f"{answer.pretrain}.yaml")
    seconds = time.perf_counter() - start
    corpus = {"type": "corpus", "corpus": f"data/{answer.prep}", "sequence_length": answer.sequence_length}
    evaluation = {"stage": "evaluate", "output": f"{answer.name}.json", "models": {"model": f"runs/{answer.name}"},
                  "sets": {"held_out": corpus}}  # fmt: skip
    config = work / f"{answer.name}.yaml"
    config.write_text(yaml.safe_dump(evaluation), encoding="utf-8")
    _tarmac(work, "eval", config)
    found: dict[str, Any] = json.loads((work / f"{answer.name}.json").read_bytes())
    return found | {"seconds": seconds}


def _tarmac(work: Path, command: str, config: Path) -> None:
    more = ["tracking.wandb.mode=disabled"] if command == "train" else []
    environment = {**os.environ, "PYTHONPATH": str(RECIPES.parent)}
    words = [sys.executable, "-m", "pipeline.cli", command, str(config), *more]
    subprocess.run(words, cwd=work, env=environment, check=True, stdout=sys.stderr)


def row(answer: Answer, found: dict[str, Any]) -> tuple[str, bool]:
    """A line of the table, and whether the target is reached."""
    [figure], unigram = found["figures"], found["baselines"]["held_out"]["unigram_loss"]
    most = answer.most_nats or answer.most_of_unigram * unigram
    target = f"≤ {most:.4f}" + (f" ({answer.most_of_unigram} × unigram)" if answer.most_of_unigram else "")
    passed = figure["loss"] <= most
    cells = (answer.name, f"{figure['tokens']:,}", f"{unigram:.4f}", target, f"{figure['loss']:.4f}",
             "yes" if passed else "NO", f"{found['seconds']:.0f}")  # fmt: skip
    return f"| {' | '.join(cells)} |", passed


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=[answer.name for answer in ANSWERS], action="append")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    names = options.only or [answer.name for answer in ANSWERS if answer.name not in LONG]
    with tempfile.TemporaryDirectory() as scratch:
        work = (options.folder or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        rows = [row(one, run(one, options.data.resolve(), work)) for one in ANSWERS if one.name in names]
    print("| recipe | tokens scored | unigram | target | loss | reached | seconds of training |")
    print("|---|---:|---:|---:|---:|---|---:|")
    print("\n".join(line for line, _ in rows))
    return 0 if all(passed for _, passed in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
