"""Loaders of tokens side by side, on the same tokens, one process on one core each.

    .venv/bin/python -m benchmarks.loaders [--mega-tokens 128] [--rounds 5] [--only NAME] [--markdown]
    .venv/bin/python -m benchmarks.loaders --scale [--markdown]

Sequences of 2,048 tokens in random order out of the page cache, as int64 tensors. Contenders take turns in each round;
figures are medians, and ratios are medians of the rounds' ratios, so that what slows the machine down for a while slows
all. Peers that ask for other versions than Tarmac get a virtual environment each, which shares torch with this one.
"""

import argparse
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch

from benchmarks.common import RunFailedError, machine, markdown_table, plain_table, run_alone, versions
from benchmarks.loaders_forms import FORMS, make_tokens
from benchmarks.loaders_scale import scale_rows

NAMES = {
    "tarmac": "Tarmac",
    "tarmac-first": "Tarmac, first pass, checksums compared",
    "tarmac-packed": "Tarmac, best fit, documents apart",
    "webdataset": "webdataset, one sequence a sample",
    "webdataset-chunks": "webdataset on Tarmac's shards, order within a chunk only",
    "streaming": "mosaicml-streaming",
    "litdata": "litdata, TokensLoader",
    "megatron": "indexed documents, Megatron's form",
    "memmap": "np.memmap, nothing else",
    "memmap-warm": "… always into the same memory",
}
"""What the contenders are called in the table."""
_PEERS = {"streaming": "mosaicml-streaming", "litdata": "litdata"}
_FORM_OF = {"tarmac-first": "tarmac", "tarmac-packed": "tarmac", "webdataset-chunks": "tarmac", "memmap-warm": "memmap"}
Table = Callable[[Sequence[str], Sequence[Sequence[str]]], str]


def main() -> None:
    """Measure what is asked for and print it."""
    options = _options()
    table: Table = markdown_table if options.markdown else plain_table
    print(f"{machine()}; {versions(('torch', 'numpy', 'webdataset'))}\n")
    folder = Path(options.folder).resolve()
    if options.scale:
        print(table(("first batch of one rank, 15.7 · 10^12 tokens", "found"), scale_rows(folder / "scale")))
        return
    names = options.only or list(NAMES)
    folder /= f"loaders-{options.mega_tokens}"
    pythons = {name: _prepare(folder, name, options.mega_tokens << 20) for name in names}
    print(table(("", "Mtok/s", "lowest", "highest", "of np.memmap", "of it in the same memory", "Tarmac is faster by"),
                _rows(_rounds(folder, pythons, options))))  # fmt: skip


def _prepare(folder: Path, name: str, num_tokens: int) -> str:
    """Write what a contender reads, if it is not there; the Python that runs the contender."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "ends.npy").exists():
        make_tokens(folder, num_tokens)
    python = _environment(folder.parent / "peers" / name, _PEERS[name]) if name in _PEERS else sys.executable
    form = _FORM_OF.get(name, name)
    assert form in FORMS
    if not (folder / form).exists():
        run_alone("benchmarks.loaders_forms", [form, str(folder)], python=python)
    return python


def _environment(folder: Path, package: str) -> str:
    """A virtual environment with a package, which sees what is installed here behind its own."""
    python = folder / "bin" / "python"
    if not (folder / "whole").exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        Path(paths["purelib"], "shared.pth").write_text(sysconfig.get_paths()["purelib"])
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*pip, f"torch=={torch.__version__}", package], check=True, stdout=sys.stderr)
        (folder / "whole").touch()
    code = f"from importlib.metadata import version; print('{package}', version('{package}'))"
    subprocess.run([str(python), "-c", code], check=True)
    return str(python)


def _rounds(folder: Path, pythons: dict[str, str], options: argparse.Namespace) -> dict[str, list[float]]:
    """Mtok/s of each contender in each round; one that fails says why and has none."""
    speeds: dict[str, list[float]] = {}
    failed = set[str]()
    for _ in range(options.rounds):
        for name in [name for name in pythons if name not in failed]:
            arguments = [name, str(folder), str(options.seconds), str(options.batch)]
            try:
                found = run_alone("benchmarks.loaders_contenders", arguments, python=pythons[name])
            except RunFailedError as error:
                failed.add(name)
                print(f"{name} failed: {error}", file=sys.stderr)
                continue
            speeds.setdefault(name, []).append(found["tokens"] / found["seconds"] / 1e6)
    return {name: speeds[name] for name in speeds if name not in failed}


def _rows(speeds: dict[str, list[float]]) -> list[list[str]]:
    rows = []
    for name, found in speeds.items():
        share = _ratio(found, speeds.get("memmap"), "{:.0%}")
        warm = _ratio(found, speeds.get("memmap-warm"), "{:.0%}")
        times = _ratio(speeds.get("tarmac"), found, "{:.1f} ×")
        rows.append([NAMES[name], f"{median(found):.0f}", f"{min(found):.0f}", f"{max(found):.0f}", share, warm, times])
    return rows


def _ratio(one: Sequence[float] | None, other: Sequence[float] | None, form: str) -> str:
    """Median of the rounds' ratios."""
    if not one or not other:
        return ""
    return form.format(median(first / second for first, second in zip(one, other, strict=True)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mega-tokens", type=int, default=128, help="how many tokens, in 2^20 (128)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs (5)")
    parser.add_argument("--seconds", type=float, default=3, help="how long each is measured, after a second (3)")
    parser.add_argument("--batch", type=int, default=64, help="sequences of a batch (64)")
    parser.add_argument("--only", action="append", choices=NAMES, help="run this contender; may be repeated")
    parser.add_argument("--scale", action="store_true", help="time and memory up to the first batch of a large corpus")
    parser.add_argument("--folder", default="data/benchmark", help="where data and environments go (data/benchmark)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    return parser.parse_args()


if __name__ == "__main__":
    main()
