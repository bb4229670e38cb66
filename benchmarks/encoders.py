"""Megabytes of text a second on one core, exactness and memory, of encoders with a BPE tokenizer of 16,384 pieces.

    .venv/bin/python -m benchmarks.encoders [--rounds N] [--megabytes N] [--memory-megabytes N]

Text: the standard library's sources and, if TARMAC_REALDATA is set, its british_fiction, cut at line ends to documents
of at most 8,000 characters. In each round all encoders take the same documents, which none has seen before. Memory is
that of a process which encodes the installed packages' sources. gigatoken gets the form of the tokenizer in which it is
fast: spaces become U+2581. A unigram tokenizer of the same size stands beside them; its ids are its own.
"""

import argparse
import json
import os
import random
import statistics
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import Stopwatch, machine, peak_mib, plain_table, run_alone, versions
from data_prep.encoding.encoder import choose_encoder
from data_prep.encoding.fast import Encoded, FastEncoder, text_form
from data_prep.tokenizer.train import cut, train_tokenizer
from pipeline.config.prep.tokenizer import TrainTokenizer
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.sentencepiece import SPACE

_DOCUMENT_CHARACTERS = 8000
_VOCAB_SIZE = 16_384
_SAMPLE_BYTES = 4_000_000
_BATCH_BYTES = 4 << 20

Encode = Callable[[Sequence[str]], Encoded]


def fastokens(folder: Path) -> Encode:
    """fastokens as Tarmac uses it, without checks."""
    return FastEncoder(load_tokenizer(folder / "bpe")).encode


def gigatoken(folder: Path) -> Encode:
    """gigatoken's batches on one thread."""
    import gigatoken

    form, _ = text_form(load_tokenizer(folder / "bpe"))
    model = form["model"]
    model["vocab"] = {piece.replace(" ", SPACE): id_ for piece, id_ in model["vocab"].items()}
    model["merges"] = [[piece.replace(" ", SPACE) for piece in pair] for pair in model["merges"]]
    form["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    tokenizer = gigatoken.Tokenizer.from_json(json.dumps(form))

    def encode(texts: Sequence[str]) -> Encoded:
        layout = tokenizer.encode_batch(list(texts), parallel=False).layout
        return np.asarray(layout.content.data), np.diff(np.asarray(layout.offsets))

    return encode


def tarmac(folder: Path) -> Encode:
    """What `tarmac prep` uses."""
    return choose_encoder(load_tokenizer(folder / "bpe"), "auto").encode


def sentencepiece(folder: Path) -> Encode:
    """The reference."""
    return choose_encoder(load_tokenizer(folder / "bpe"), "reference").encode


def unigram(folder: Path) -> Encode:
    """sentencepiece with a unigram model."""
    return choose_encoder(load_tokenizer(folder / "unigram"), "auto").encode


def tokenizers(folder: Path) -> Encode:
    """Hugging Face's own library with the same pieces."""
    import tokenizers

    tokenizer: Any = tokenizers.Tokenizer.from_str(json.dumps(text_form(load_tokenizer(folder / "bpe"))[0]))

    def encode(texts: Sequence[str]) -> Encoded:
        parts = [found.ids for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        lengths = np.array([len(part) for part in parts])
        return np.concatenate([np.array(part, dtype=np.uint32) for part in parts]), lengths

    return encode


CONTENDERS = {made.__name__: made for made in (tarmac, fastokens, gigatoken, sentencepiece, tokenizers, unigram)}


def measure_speed(folder: Path, rounds: int, megabytes: float) -> dict[str, list[float]]:
    """MB of text a CPU second of each contender in each round, and how many documents it encodes in another way."""
    encoders = {name: make(folder) for name, make in CONTENDERS.items()}
    found: dict[str, list[float]] = {name: [0.0] for name in encoders}
    for encode in encoders.values():
        encode(["what is imported and allocated once"])
    stream = documents(_library())
    for _ in range(rounds):
        texts = _take(stream, megabytes * 1e6)
        size = sum(len(text.encode()) for text in texts) / 1e6
        encoded = {}
        for name, encode in random.sample(list(encoders.items()), len(encoders)):
            with Stopwatch() as watch:
                encoded[name] = encode(texts)
            found[name].append(size / watch.cpu_seconds)
        for name, (ids, lengths) in encoded.items():
            found[name][0] += _different(ids, lengths, *encoded["sentencepiece"])
    return found


def measure_memory(folder: Path, name: str, megabytes: float) -> dict[str, float]:
    """Peak memory in MiB after the first batch and after so many megabytes, and MB a CPU second in between."""
    stream = documents(sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")))
    encode = CONTENDERS[name](folder)
    encode(_take(stream, _BATCH_BYTES))
    first, size, seconds = peak_mib(), 0, 0.0
    while size < megabytes * 1e6 and (texts := _take(stream, _BATCH_BYTES)):
        size += sum(len(text.encode()) for text in texts)
        with Stopwatch() as watch:
            encode(texts)
        seconds += watch.cpu_seconds
    return {"first": first, "last": peak_mib(), "megabytes": size / 1e6, "speed": size / 1e6 / seconds}


def documents(paths: Sequence[Path]) -> Iterator[str]:
    """The documents of some files, those with U+2581 left out: gigatoken takes it for a space."""
    for path in paths:
        for text in cut(path.read_bytes().decode("utf-8", errors="replace"), _DOCUMENT_CHARACTERS):
            if SPACE not in text:
                yield text


def _library() -> list[Path]:
    """The files for speed, in a seeded order."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(stdlib.rglob("*.py")) if "site-packages" not in path.parts]
    if realdata := os.environ.get("TARMAC_REALDATA"):
        paths += sorted(Path(realdata, "british_fiction").glob("*.txt"))
    return random.Random(0).sample(paths, len(paths))


def _take(stream: Iterator[str], size: float) -> list[str]:
    taken: list[str] = []
    while size > 0 and (text := next(stream, None)) is not None:
        taken.append(text)
        size -= len(text)
    return taken


def _different(ids: Any, lengths: Any, others: Any, other_lengths: Any) -> int:
    parts, other_parts = (np.split(*one) for one in ((ids, np.cumsum(lengths)), (others, np.cumsum(other_lengths))))
    return sum(not np.array_equal(one, other) for one, other in zip(parts, other_parts, strict=True))


def _train(folder: Path) -> None:
    texts = _take(documents(_library()[::-1]), _SAMPLE_BYTES)
    for algorithm in ("bpe", "unigram"):
        config = TrainTokenizer(type="train", algorithm=algorithm, vocab_size=_VOCAB_SIZE)
        train_tokenizer(texts, config).save(folder / algorithm)


def main() -> None:
    """Train, then measure each thing in a process of its own, pinned to one core; print two tables."""
    arguments = _arguments()
    if arguments.part:
        name, folder = arguments.part
        both = measure_speed(Path(folder), arguments.rounds, arguments.megabytes) if name == "speed" else None
        print(json.dumps(both or measure_memory(Path(folder), name, arguments.memory_megabytes)))
        return
    print(f"{machine()}\n{versions(['fastokens', 'gigatoken', 'sentencepiece', 'tokenizers'])}\n")
    with TemporaryDirectory() as folder:
        _train(Path(folder))
        sizes = [f"--{name}={getattr(arguments, name.replace('-', '_'))}" for name in ("rounds", "megabytes")]
        speeds = run_alone("benchmarks.encoders", ["--part", "speed", folder, *sizes])
        memory = [f"--memory-megabytes={arguments.memory_megabytes}"]
        fast = {name: run_alone("benchmarks.encoders", ["--part", name, folder, *memory]) for name in _FAST}
    print(plain_table(_SPEED_HEADER, [_speed_row(name, speeds) for name in CONTENDERS]), end="\n\n")
    print(plain_table(_MEMORY_HEADER, [[name, *(f"{value:.0f}" for value in fast[name].values())] for name in fast]))


_FAST = ("fastokens", "gigatoken")
_SPEED_HEADER = ("encoder", "MB/s, median", "least", "most", "x sentencepiece", "documents that differ")
_MEMORY_HEADER = ("encoder", "MiB after 4 MB", "MiB at the end", "MB", "MB/s")


def _speed_row(name: str, speeds: dict[str, list[float]]) -> list[str]:
    different, *mine = speeds[name]
    ratios = [one / other for one, other in zip(mine, speeds["sentencepiece"][1:], strict=True)]
    figures = (statistics.median(mine), min(mine), max(mine), statistics.median(ratios))
    return [name, *(f"{figure:.1f}" for figure in figures), "-" if name == "unigram" else f"{different:.0f}"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="how often each encoder is measured (5)")
    parser.add_argument("--megabytes", type=float, default=6, help="text of a round (6)")
    parser.add_argument("--memory-megabytes", type=float, default=200, help="text for memory (200)")
    parser.add_argument("--part", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
