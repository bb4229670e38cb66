"""Data preparation side by side with others, on the same text, tokenizer and core.

    .venv/bin/python -m benchmarks.data_prep [--megabytes 100] [--rounds 5] [--only NAME] [--markdown]
    .venv/bin/python -m benchmarks.data_prep --memory
    .venv/bin/python -m benchmarks.data_prep --files

Each run is a process of its own on one core, with one thread (two cores where two workers are measured). Contenders
take turns in each round; figures are medians, and ratios are medians of the rounds' ratios, so that what slows the
machine down for a while slows all. MB are 10^6 bytes of text, not of JSON.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import RunFailedError, machine, markdown_table, plain_table, run_alone, versions
from benchmarks.data_prep_scale import scale_rows
from benchmarks.data_prep_text import Text, prepare

PACKAGES = ("fastokens", "sentencepiece", "tokenizers", "datasets", "datatrove", "rensa")
NAMES = {
    "tarmac": "Tarmac, text to tarballs",
    "minhash": "Tarmac with near-duplicates (MinHash)",
    "filters": "Tarmac with MinHash and filters",
    "two-workers": "Tarmac, 2 workers on 2 cores",
    "encoder": "Tarmac's encoder alone",
    "sentencepiece": "sentencepiece alone",
    "datasets": "datasets.map with tokenizers",
    "datatrove": "datatrove, tokens merged",
}
"""What the contenders of the speed table are called there."""
Runs = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Target:
    """What a figure should be."""

    what: str
    """In words."""
    wanted: str
    """The limit, in words."""
    found: float
    """The figure."""
    met: bool
    """Whether it is within."""

    def row(self) -> list[str]:
        """A line of the table."""
        return [self.what, self.wanted, f"{self.found:.2f}", "yes" if self.met else "no"]


def main() -> None:
    """Measure what is asked for and print it."""
    options = _options()
    table = markdown_table if options.markdown else plain_table
    print(f"{machine()}; {versions(PACKAGES)}\n")
    if options.memory:
        targets = _memory(options)
    elif options.files:
        found = _run("files", prepare(Path(options.folder, "text-1"), 1, None))
        targets = [_at_most(f"s to list and plan {found['files']:,} files", 30, found["seconds"])]
    else:
        text = prepare(Path(options.folder, f"text-{options.megabytes:g}"), options.megabytes, options.text)
        print(f"{text.text_bytes / 1e6:.1f} MB in {text.documents:,} documents, from {text.made_from}\n")
        runs = _rounds(text, options)
        print(
            table(
                ("", "MB/s", "tokens/s", "seconds", "CPU seconds", "peak MiB", "Tarmac is faster by"),
                _speeds(text, runs),
            ),
            "\n",
        )
        print(table(("phase, MB/s of text read", *_tarmacs(runs)), _phases(text, runs)), "\n")
        print(table(("bytes", *_tarmacs(runs)), _sizes(runs)), "\n")
        for name in (name for name in ("minhash", "filters") if name in runs):
            rows = scale_rows(options.terabytes * 1e12, text, runs[name])
            print(table((f"{options.terabytes:g} TB of text, {NAMES[name]}", "core hours", "TB"), rows), "\n")
        targets = _targets(text, runs)
    print(table(("target", "wanted", "found", "met"), [target.row() for target in targets]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100, help="how much text (100)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs (5)")
    parser.add_argument("--only", action="append", choices=NAMES, help="run this contender; may be repeated")
    parser.add_argument("--terabytes", type=float, default=10, help="size of a job to compute time and disk for (10)")
    parser.add_argument("--text", help="folder of text files, in place of the installed packages; also runs `filters`,"
                        " which drop program code")  # fmt: skip
    parser.add_argument("--memory", action="store_true", help="peak memory with little and with much text")
    parser.add_argument("--large-megabytes", type=float, default=2000, help="how much is much (2,000)")
    parser.add_argument("--files", action="store_true", help="time to list and plan 100,000 small files")
    parser.add_argument("--folder", default="data/benchmark", help="where text and results go (data/benchmark)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args()


def _rounds(text: Text, options: argparse.Namespace) -> Runs:
    names = options.only or [name for name in NAMES if name != "filters" or options.text]
    runs: dict[str, list[Mapping[str, Any]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            runs[name].append(_run(name, text))
            print(f"round {number + 1}: {name} {runs[name][-1]['seconds']:.2f} s", file=sys.stderr)
    tokens = {name: found[0]["tokens"] for name, found in runs.items() if name not in ("minhash", "filters")}
    if len(set(tokens.values())) > 1:
        raise SystemExit(f"the contenders did not give the same tokens: {tokens}")
    return runs


def _run(name: str, text: Text) -> dict[str, Any]:
    cores = 2 if name in ("two-workers", "memory") else 1
    with tempfile.TemporaryDirectory(dir=text.folder) as scratch:
        try:
            return run_alone("benchmarks.data_prep_contenders", [name, text.folder, scratch], cores)
        except RunFailedError as error:
            raise SystemExit(f"{name}: {error}") from error


def _of(runs: Runs, name: str, figure: str) -> float:
    return float(median(run[figure] for run in runs[name]))


def _ratio(runs: Runs, slow: str, fast: str) -> float:
    """How many times as long one took as another, the median over the rounds."""
    pairs = zip(runs[slow], runs[fast], strict=True)
    return float(median(one["seconds"] / other["seconds"] for one, other in pairs))


def _speeds(text: Text, runs: Runs) -> list[list[str]]:
    rows = []
    for name in runs:
        seconds, tokens = _of(runs, name, "seconds"), _of(runs, name, "tokens")
        speed = f"{text.text_bytes / 1e6 / seconds:.2f}"
        ratio = f"{_ratio(runs, name, 'tarmac'):.2f}" if "tarmac" in runs else ""
        others = [f"{_of(runs, name, 'cpu_seconds'):.2f}", f"{_of(runs, name, 'peak_mib'):.0f}", ratio]
        rows.append([NAMES[name], speed, f"{tokens / seconds:,.0f}", f"{seconds:.2f}", *others])
    return rows


def _tarmacs(runs: Runs) -> list[str]:
    return [name for name in runs if "phases" in runs[name][0]]


def _phases(text: Text, runs: Runs) -> list[list[str]]:
    names = _tarmacs(runs)
    phases = list(dict.fromkeys(phase for name in names for phase in runs[name][0]["phases"]))

    def speed(name: str, phase: str) -> str:
        seconds = [run["phases"].get(phase, 0) for run in runs[name]]
        return f"{text.text_bytes / 1e6 / median(seconds):,.1f}" if any(seconds) else ""

    return [[phase, *(speed(name, phase) for name in names)] for phase in phases]


def _sizes(runs: Runs) -> list[list[str]]:
    """What lies on the disk; the same in each round."""
    found = [runs[name][0] for name in _tarmacs(runs)]
    return [
        [
            "texts between the phases, per byte kept",
            *(f"{run['documents_bytes'] / run['kept_bytes']:.3f}" for run in found),
        ],
        ["rows for deduplication, per document", *(f"{run['row_bytes'] / run['kept']:.0f}" for run in found)],
        ["other work files, per document", *(f"{run['other_bytes'] / run['kept']:.0f}" for run in found)],
        ["shards, per token", *(f"{run['shard_bytes'] / run['tokens']:.3f}" for run in found)],
        ["text, per token", *(f"{run['kept_bytes'] / run['tokens']:.3f}" for run in found)],
        ["text, per document", *(f"{run['kept_bytes'] / run['kept']:.0f}" for run in found)],
        ["documents kept, per hundred", *(f"{100 * run['kept'] / run['read']:.1f}" for run in found)],
    ]


def _targets(text: Text, runs: Runs) -> list[Target]:
    megabytes, found = text.text_bytes / 1e6, []
    if "tarmac" in runs:
        found.append(_at_least("MB/s a core, text to tarballs", 20, megabytes / _of(runs, "tarmac", "seconds")))
        for name, what, wanted in (
            ("encoder", "of the encoder's bare speed", 0.6),
            ("datatrove", "times datatrove's speed", 10),
        ):
            if name in runs:
                found.append(_at_least(what, wanted, _ratio(runs, name, "tarmac")))
        if "two-workers" in runs:
            found.append(_at_least("times one worker's speed with two", 1.8, _ratio(runs, "tarmac", "two-workers")))
    if "minhash" in runs:
        found.append(_at_least("MB/s a core with MinHash", 15, megabytes / _of(runs, "minhash", "seconds")))
    return found


def _memory(options: argparse.Namespace) -> list[Target]:
    """The largest process of a job with two workers."""
    targets = []
    for megabytes in (options.megabytes, options.large_megabytes):
        folder = Path(options.folder, f"text-{megabytes:g}")
        found = _run("memory", prepare(folder, megabytes, options.text))
        print(f"{megabytes:,.0f} MB: {found['seconds']:.0f} s, {found['tokens']:,} tokens", file=sys.stderr)
        targets.append(_at_most(f"MiB in the largest process, {megabytes:,.0f} MB of text", 1024, found["peak_mib"]))
        shutil.rmtree(folder)
    return targets


def _at_least(what: str, wanted: float, found: float) -> Target:
    return Target(what, f"≥ {wanted:g}", found, found >= wanted)


def _at_most(what: str, wanted: float, found: float) -> Target:
    return Target(what, f"≤ {wanted:g}", found, found <= wanted)


if __name__ == "__main__":
    main()
