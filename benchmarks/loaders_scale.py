"""Time and memory up to the first batch on the manifest of a corpus of 15.7 · 10^12 tokens.

60,000 shards of 256 chunks of a mebitoken in 20 sources. The manifest is whole; shards are made when a measured step
reads them: sparse files with an index, zeros but for the headers that the reader looks at.
`python -m benchmarks.loaders_scale FOLDER STEP` measures one start and prints a JSON object.
"""

import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

_begin = time.perf_counter()
import torch  # noqa: E402, F401  # timed alone: nothing here can shorten it

TORCH_SECONDS = time.perf_counter() - _begin

import numpy as np  # noqa: E402  # imports are part of the time

from pipeline.corpus.chunk import NPY_HEADER_BYTES, npy_bytes, token_hash  # noqa: E402
from pipeline.corpus.corpus import Corpus  # noqa: E402
from pipeline.corpus.index import INDEX_DTYPE, index_path, write_index  # noqa: E402
from pipeline.corpus.manifest import MANIFEST_NAME, Manifest, ShardEntry, TokenizerEntry, write_manifest  # noqa: E402
from pipeline.data.corpora import Corpora  # noqa: E402
from pipeline.data.cuts import Cuts  # noqa: E402
from pipeline.data.loader import Loader, Share  # noqa: E402
from pipeline.data.mixture import integer_weights  # noqa: E402
from pipeline.data.order import Order  # noqa: E402
from pipeline.data.phases import Change, Past, Phase, Setting, SourceShare  # noqa: E402

_SOURCES, _SHARDS, _CHUNKS, _CHUNK_TOKENS = 20, 60_000, 256, 1 << 20
_MEMBER_BYTES = 2 * _CHUNK_TOKENS + 1024
"""Of a chunk: tokens with their header, and room in front."""
_SHARD_BYTES = _MEMBER_BYTES * _CHUNKS
LENGTH, GLOBAL_BATCH, MICRO_SIZE, RANKS = 4096, 2048, 8, 256
STEPS = (0, 1000, 300_000, 1_800_000)
"""Steps to begin at; an epoch has about 1.87 million."""


def make_manifest(folder: Path) -> None:
    """The manifest, if it is not there."""
    if (folder / MANIFEST_NAME).exists():
        return
    sources = {
        f"source-{source:02d}": [
            ShardEntry(
                name=f"source-{source:02d}-{shard:06d}.tar", bytes=_SHARD_BYTES, sha256=f"{source:032x}{shard:032x}",
                tokens=_CHUNKS * _CHUNK_TOKENS, documents=380_000, text_bytes=1 << 30, chunks=_CHUNKS,
            )
            for shard in range(_SHARDS // _SOURCES)
        ]
        for source in range(_SOURCES)
    }  # fmt: skip
    tokenizer = TokenizerEntry(fingerprint="0" * 64, vocab_size=50_000, eos_id=2)
    manifest = Manifest(format_version=2, dtype="uint16", tokenizer=tokenizer, config_sha256="0" * 64, versions={},
                        train=sources, validation={})  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)


def open_corpora(folder: Path) -> Corpora:
    """All sources of the corpus."""
    corpus = Corpus(folder)
    return Corpora({name: (corpus, name) for name in corpus.manifest.train}, "train")


def order_of(corpora: Corpora) -> Order:
    """A mixture of all of them, in which each has another weight; after a change of lengths and one of the mixture."""
    counts = {name: len(one.num_positions) for name, one in corpora.shards.items()}
    settings = [
        _setting(corpora, counts, length, tilt) for length, tilt in ((LENGTH // 2, 1), (LENGTH, 1), (LENGTH, 2))
    ]
    changes = [Change(100, settings[1]), Change(200, settings[2])]
    return Order(Cuts(corpora.shards, 0), 0, [Phase(0, 0, settings[0])], changes)


def _setting(corpora: Corpora, counts: dict[str, int], length: int, tilt: int) -> Setting:
    weights = integer_weights([1 + tilt * number / 100 for number in range(len(counts))])
    shares = [
        SourceShare(name, corpora.fingerprint(name, number), number, weight)
        for (name, number), weight in zip(counts.items(), weights, strict=True)
    ]
    return Setting(tuple(shares), length, GLOBAL_BATCH)


def make_shards(folder: Path, corpora: Corpora, order: Order, step: int) -> None:
    """Make those shards that a step reads."""
    for part in order.parts(step):
        source = corpora.shards[part.at.source]
        path = source.corpus.shard_path("train", source.source, source.entries[part.at.shard])
        if not path.exists():
            _make_shard(path)


def _make_shard(path: Path) -> None:
    index = np.zeros(_CHUNKS, INDEX_DTYPE)
    index["offset"] = np.arange(_CHUNKS) * _MEMBER_BYTES + 1024
    index["tokens"] = _CHUNK_TOKENS
    index["xxh3"] = token_hash(np.zeros(_CHUNK_TOKENS, np.uint16))
    header = npy_bytes(np.zeros(0, np.uint16))[:NPY_HEADER_BYTES]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        os.ftruncate(file.fileno(), _SHARD_BYTES)
        for offset in index["offset"].tolist():
            os.pwrite(file.fileno(), header, offset - NPY_HEADER_BYTES)
    write_index(index_path(path), index)


def start(folder: Path, step: int) -> dict[str, Any]:
    """What a rank does up to its first batch: read the manifest, take up the phase table, fill the batch."""
    seconds = {"torch": TORCH_SECONDS, "imports": _since_start()}
    begin = time.perf_counter()
    corpora = open_corpora(folder)
    seconds["manifest"] = time.perf_counter() - begin
    past = Past.from_json(json.loads((folder / f"past-{step}.json").read_text()))
    order = Order(Cuts(corpora.shards, 0), 0, past.phases, bookmarks=past.bookmarks)
    loader = Loader(corpora, order, Share(RANKS - 1, RANKS, MICRO_SIZE), 0)
    loader.batch(step)
    seconds |= {"first batch": _since_start(), "of a processor": time.process_time()}
    return {"seconds": seconds, "mebibytes": _peak_mebibytes()}


def _since_start() -> float:
    """Seconds since this process was started, to a hundredth; the interpreter's own start is among them."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine was started
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _peak_mebibytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def scale_rows(folder: Path) -> list[list[str]]:
    """Rows of what was found, each start in a process of its own, three times."""
    from benchmarks.common import run_alone  # what it imports is no part of a start

    make_manifest(folder)
    corpora = open_corpora(folder)
    order, rows = order_of(corpora), []
    for step in STEPS:
        make_shards(folder, corpora, order, step)
        table = order.phases(step)
        (folder / f"past-{step}.json").write_text(json.dumps(Past(step, table).to_json(), separators=(",", ":")))
        runs = [run_alone("benchmarks.loaders_scale", [str(folder), str(step)]) for _ in range(3)]
        seconds = {name: median(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]}
        size = (folder / f"past-{step}.json").stat().st_size
        rows += [
            [f"step {step:,}: s from the start of the process", f"{seconds['first batch']:.2f}"],
            ["… s of a processor, all threads", f"{seconds['of a processor']:.2f}"],
            ["… s up to the end of imports", f"{seconds['imports']:.2f}"],
            ["… s to import torch alone", f"{seconds['torch']:.2f}"],
            ["… s to read the manifest", f"{seconds['manifest']:.2f}"],
            ["… most memory, MiB, imports included", f"{max(run['mebibytes'] for run in runs):,}"],
            [f"… state with {len(table)} phases, bytes", f"{size:,}"],
        ]
    return rows


if __name__ == "__main__":
    print(json.dumps(start(Path(sys.argv[1]), int(sys.argv[2]))))
