"""One loader at work: `python -m benchmarks.loaders_contenders NAME FOLDER SECONDS BATCH` prints tokens and seconds.

Each yields batches of some sequences of 2,048 tokens in random order, as int64 tensors: what is read, and what is to be
predicted. A first second is not counted; by then Tarmac has verified each chunk (but `tarmac-first` counts just that).
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.loaders_forms import LENGTH, without_images

BATCH = int(sys.argv[4]) if len(sys.argv) > 4 else 64
"""Sequences."""
_WARM_SECONDS = 1.0
Pair = tuple[torch.Tensor, torch.Tensor]


def _tarmac(folder: Path, packing: Any = "concat") -> tuple[Any, int]:
    from pipeline.corpus.corpus import Corpus
    from pipeline.data.corpora import Corpora
    from pipeline.data.cuts import Cuts
    from pipeline.data.loader import Loader, Share
    from pipeline.data.mixture import WEIGHT_TOTAL
    from pipeline.data.order import Order
    from pipeline.data.phases import Phase, Setting, SourceShare

    source = Corpora({"web": (Corpus(folder / "tarmac"), "web")}, "train")
    num_shards = len(source.shards["web"].num_positions)
    share = SourceShare("web", source.fingerprint("web", num_shards), num_shards, WEIGHT_TOTAL)
    cuts = Cuts(source.shards, 0)
    order = Order(cuts, 0, [Phase(0, 0, Setting((share,), LENGTH, BATCH, packing))])
    return Loader(source, order, Share(0, 1, BATCH), 0), int(source.shards["web"].num_positions.sum())


def tarmac(folder: Path) -> Iterator[Pair]:
    """Windows, prepared in the background."""
    for batch in _tarmac(folder)[0].batches(0, 1 << 40):
        yield batch.micro_batches[0].input_ids, batch.micro_batches[0].labels


def tarmac_packed(folder: Path) -> Iterator[Pair]:
    """Documents by best fit, kept apart."""
    for batch in _tarmac(folder, "best_fit")[0].batches(0, 1 << 40):
        yield batch.micro_batches[0].input_ids, batch.micro_batches[0].labels


def webdataset(folder: Path) -> Iterator[Pair]:
    """One sequence a sample, shards and a buffer of 1,000 samples shuffled."""
    from webdataset import WebDataset

    urls = sorted(str(path) for path in (folder / "webdataset").glob("*.tar"))
    data = WebDataset(urls, shardshuffle=len(urls), seed=0).decode().shuffle(1000).to_tuple("npy")
    for _ in count():
        yield from _stacked(sequence for (sequence,) in data)


def webdataset_chunks(folder: Path) -> Iterator[Pair]:
    """Tarmac's shards: the windows of one chunk after another, in random order within it."""
    from webdataset import WebDataset

    urls = sorted(str(path) for path in (folder / "tarmac" / "shards" / "web").glob("*.tar"))
    draw = np.random.default_rng(0)

    def windows() -> Iterator[Any]:
        for sample in WebDataset(urls, shardshuffle=len(urls), seed=0).decode():
            tokens = sample["tokens.npy"]
            for start in draw.permutation((len(tokens) - 1) // LENGTH).tolist():
                yield tokens[start * LENGTH : start * LENGTH + LENGTH + 1]

    for _ in count():
        yield from _stacked(windows())


def _stacked(sequences: Iterator[Any]) -> Iterator[Pair]:
    rows = np.empty((BATCH, LENGTH + 1), np.uint16)
    for number, sequence in enumerate(sequences):
        rows[number % BATCH] = sequence
        if number % BATCH == BATCH - 1:
            yield _pair(torch.from_numpy(rows.astype(np.int64)))


def _pair(tokens: torch.Tensor) -> Pair:
    return tokens[:, :-1], tokens[:, 1:]


def streaming(folder: Path) -> Iterator[Pair]:
    """Its StreamingDataset on local files, shuffled, in torch's DataLoader without workers."""
    without_images()
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()
    data = StreamingDataset(local=str(folder / "streaming"), shuffle=True, batch_size=BATCH)
    loader = torch.utils.data.DataLoader(
        data, batch_size=BATCH, collate_fn=lambda rows: [row["tokens"] for row in rows]
    )
    for _ in count():
        for rows in loader:
            if len(rows) == BATCH:
                yield _pair(torch.from_numpy(np.stack(rows).astype(np.int64)))


def litdata(folder: Path) -> Iterator[Pair]:
    """Its StreamingDataset with the TokensLoader, shuffled, in its DataLoader without workers."""
    from litdata import StreamingDataLoader, StreamingDataset, TokensLoader

    loader_of_items = TokensLoader(block_size=LENGTH + 1)
    data = StreamingDataset(str(folder / "litdata"), item_loader=loader_of_items, shuffle=True, drop_last=True)
    for _ in count():
        for tokens in StreamingDataLoader(data, batch_size=BATCH, num_workers=0, drop_last=True):
            yield _pair(tokens.to(torch.int64))


def megatron(folder: Path) -> Iterator[Pair]:
    """Documents in random order laid end to end, cut into sequences, and these shuffled: three index arrays."""
    index = np.load(folder / "megatron" / "text.idx.npz")
    sizes, pointers = index["sizes"], index["pointers"]
    data = np.memmap(folder / "megatron" / "text.bin", np.uint16, mode="r")
    draw = np.random.default_rng(0)
    for _ in count():
        documents = draw.permutation(len(sizes))
        ends = np.cumsum(sizes[documents], dtype=np.int64)
        starts = np.arange(0, int(ends[-1]) - LENGTH, LENGTH)
        first = np.searchsorted(ends, starts, side="right")
        offsets = starts - (ends - sizes[documents])[first]

        def sequence(number: int) -> Any:
            parts, need = [], LENGTH + 1
            place, offset = int(first[number]), int(offsets[number])  # noqa: B023  # used up before they change
            while need:
                document = documents[place]  # noqa: B023
                size = min(need, int(sizes[document]) - offset)
                begin = int(pointers[document]) + offset
                parts.append(data[begin : begin + size])
                need, place, offset = need - size, place + 1, 0
            return np.concatenate(parts)

        yield from _stacked(map(sequence, draw.permutation(len(starts)).tolist()))


def memmap(folder: Path, make: Callable[[], Any] = lambda: np.empty((2, BATCH, LENGTH), np.int64)) -> Iterator[Pair]:
    """No order, no documents, no checks: slices at random into two tensors."""
    data = np.memmap(folder / "memmap" / "text.bin", np.uint16, mode="r")
    draw = np.random.default_rng(0)
    for _ in count():
        inputs, labels = make()
        for row, start in enumerate(draw.integers(0, len(data) - LENGTH, BATCH).tolist()):
            inputs[row], labels[row] = data[start : start + LENGTH], data[start + 1 : start + LENGTH + 1]
        yield torch.from_numpy(inputs), torch.from_numpy(labels)


def memmap_warm(folder: Path) -> Iterator[Pair]:
    """The same, always into the same two tensors."""
    room = np.empty((2, BATCH, LENGTH), np.int64)
    return memmap(folder, lambda: room)


LOADERS: dict[str, Callable[[Path], Iterator[Pair]]] = {
    "tarmac": tarmac,
    "tarmac-packed": tarmac_packed,
    "webdataset": webdataset,
    "webdataset-chunks": webdataset_chunks,
    "streaming": streaming,
    "litdata": litdata,
    "megatron": megatron,
    "memmap": memmap,
    "memmap-warm": memmap_warm,
}


def first_pass(folder: Path) -> tuple[int, float]:
    """Tokens and seconds of Tarmac's first epoch, in which each chunk is compared with its checksum."""
    loader, num_positions = _tarmac(folder)
    begin = time.perf_counter()
    for _ in loader.batches(0, num_positions // (BATCH * LENGTH)):
        pass
    return num_positions, time.perf_counter() - begin


def timed(batches: Iterator[Pair], seconds: float) -> tuple[int, float]:
    """Tokens and seconds of batches, without those of a first while."""
    for limit in (_WARM_SECONDS, seconds):
        tokens, begin, now = 0, time.perf_counter(), 0.0
        while now < limit:
            inputs, labels = next(batches)
            assert inputs.shape == labels.shape == (BATCH, LENGTH)
            assert inputs.dtype == labels.dtype == torch.int64
            tokens, now = tokens + inputs.numel(), time.perf_counter() - begin
    return tokens, now


def main(name: str, folder: Path, seconds: float) -> None:
    """Run one and print a JSON object."""
    torch.set_num_threads(1)
    tokens, taken = first_pass(folder) if name == "tarmac-first" else timed(LOADERS[name](folder), seconds)
    print(json.dumps({"tokens": tokens, "seconds": taken}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve(), float(sys.argv[3]))
