"""The same tokens in the form that each loader reads: `python -m benchmarks.loaders_forms NAME FOLDER` writes one.

All come from `tokens.npy`, documents one after the other, and their `ends.npy`. Where a form stores sequences, they
have one token more than is read, which is the last one's label.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 2048
"""Tokens of a sequence."""
_CHUNK_TOKENS = 1 << 20
_CHUNKS = 64
_DOCUMENT_TOKENS = 700
_VOCABULARY = 50_000


def make_tokens(folder: Path, num_tokens: int) -> None:
    """Random tokens in documents of 700 on average."""
    draw = np.random.default_rng(0)
    lengths = np.maximum(8, draw.exponential(_DOCUMENT_TOKENS, num_tokens // _DOCUMENT_TOKENS)).astype(np.int64)
    ends = np.cumsum(lengths)
    ends = np.append(ends[ends < num_tokens - 8], num_tokens)
    tokens = draw.integers(3, _VOCABULARY, num_tokens, dtype=np.uint16)
    tokens[ends - 1] = 2
    np.save(folder / "tokens.npy", tokens)
    np.save(folder / "ends.npy", ends)


def _loaded(folder: Path) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
    return np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "ends.npy")


def _sequences(tokens: NDArray[np.uint16]) -> Iterator[NDArray[np.uint16]]:
    for start in range(0, len(tokens) - LENGTH, LENGTH):
        yield tokens[start : start + LENGTH + 1]


def tarmac(folder: Path, target: Path) -> None:
    """A corpus with one source."""
    from pipeline.corpus.chunk import Chunk, DocumentRecord
    from pipeline.corpus.manifest import Manifest, TokenizerEntry, write_manifest
    from pipeline.corpus.writer import write_shard

    tokens, ends = _loaded(folder)
    cuts = np.searchsorted(ends, np.arange(_CHUNK_TOKENS, int(ends[-1]), _CHUNK_TOKENS))
    chunks, start, number = [], 0, 0
    for part in np.split(ends, cuts):
        if not len(part):
            continue
        names = range(number, number + len(part))
        records = tuple(DocumentRecord(f"{name:032x}", f"part-{name // 1000:05d}", name % 1000, 1) for name in names)
        chunks.append(Chunk(np.array(tokens[start : part[-1]]), (part - start).astype(np.uint32), records))
        start, number = int(part[-1]), number + len(part)
    groups = [chunks[first : first + _CHUNKS] for first in range(0, len(chunks), _CHUNKS)]
    shards = [
        write_shard(target / "shards" / "web" / f"web-{shard:06d}.tar", group) for shard, group in enumerate(groups)
    ]
    tokenizer = TokenizerEntry(fingerprint="0" * 64, vocab_size=_VOCABULARY, eos_id=2)
    write_manifest(
        target,
        Manifest(format_version=2, dtype="uint16", tokenizer=tokenizer, config_sha256="0" * 64, versions={},
                 train={"web": shards}, validation={}),
    )  # fmt: skip


def webdataset(folder: Path, target: Path) -> None:
    """Tarballs with one sequence a sample."""
    from webdataset import ShardWriter

    tokens, _ = _loaded(folder)
    with ShardWriter(str(target / "%06d.tar"), maxcount=4096, verbose=0) as writer:
        for number, sequence in enumerate(_sequences(tokens)):
            writer.write({"__key__": f"{number:09d}", "npy": np.array(sequence)})


def streaming(folder: Path, target: Path) -> None:
    """MDS, one sequence a sample."""
    without_images()
    from streaming import MDSWriter

    tokens, _ = _loaded(folder)
    with MDSWriter(out=str(target), columns={"tokens": f"ndarray:uint16:{LENGTH + 1}"}) as writer:
        for sequence in _sequences(tokens):
            writer.write({"tokens": np.array(sequence)})


def without_images() -> None:
    """Put empty modules where streaming looks for torchvision, whose wheels need CUDA's libraries."""
    for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
        module: Any = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.VisionDataset, module.CIFAR10, module.to_tensor = object, object, None
        sys.modules[name] = module


def litdata(folder: Path, target: Path) -> None:
    """Chunks of tokens for its TokensLoader."""
    from litdata import TokensLoader, optimize

    optimize(
        fn=_litdata_part,
        inputs=[(str(folder), start) for start in range(0, len(_loaded(folder)[0]), _CHUNK_TOKENS)],
        output_dir=str(target),
        chunk_size=(LENGTH + 1) * 8192,
        item_loader=TokensLoader(block_size=LENGTH + 1),
        num_workers=1,
        verbose=False,
    )


def _litdata_part(part: tuple[str, int]) -> Iterator[object]:
    import torch

    tokens, _ = _loaded(Path(part[0]))
    yield torch.from_numpy(np.array(tokens[part[1] : part[1] + _CHUNK_TOKENS]))


def megatron(folder: Path, target: Path) -> None:
    """All tokens in one file, and an index of sizes and pointers."""
    tokens, ends = _loaded(folder)
    np.asarray(tokens).tofile(target / "text.bin")
    sizes = np.diff(ends, prepend=0).astype(np.int32)
    np.savez(target / "text.idx.npz", sizes=sizes, pointers=np.concatenate([[0], ends[:-1]]))


def memmap(folder: Path, target: Path) -> None:
    """All tokens in one file."""
    np.asarray(_loaded(folder)[0]).tofile(target / "text.bin")


FORMS: dict[str, Callable[[Path, Path], None]] = {
    form.__name__: form for form in (tarmac, webdataset, streaming, litdata, megatron, memmap)
}


def main(name: str, folder: Path) -> None:
    """Write one form, whole or not at all."""
    partial, target = folder / f"{name}.partial", folder / name
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    FORMS[name](folder, partial)
    partial.rename(target)
    print("{}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
