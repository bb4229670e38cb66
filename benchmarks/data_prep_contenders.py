"""One run of one contender: `python -m benchmarks.data_prep_contenders NAME TEXT_FOLDER SCRATCH_FOLDER`.

Each does its work on the same text with the same tokenizer and prints a JSON object. Imports are not counted:
everything that a user of the library would wait for on a long job is.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import Stopwatch
from benchmarks.data_prep_text import Text, documents

_BATCH_BYTES = 4 << 20


@dataclass
class Run:
    """What one run found."""

    watch: Stopwatch
    """How long it took."""
    tokens: int
    """Tokens, one EOS for each document included."""
    details: dict[str, Any] = field(default_factory=dict)
    """More, such as the seconds of each phase."""


def tarmac(
    text: Text, scratch: Path, workers: int = 1, minhash: bool = False, filters: tuple[dict[str, Any], ...] = ()
) -> Run:
    """Text to tarballs, from the command's function on."""
    from rich.console import Console

    import data_prep.encoding.encoder
    import data_prep.encoding.fast
    import data_prep.repair  # noqa: F401  all that a run needs, so that no import is counted
    from data_prep.stage import prep
    from pipeline.config.prep.recipe import PrepConfig

    config = PrepConfig.model_validate(
        {
            "stage": "prep",
            "output": str(scratch / "corpus"),
            "keep_work": "everything",  # to be measured
            "sources": [{"name": "text", "reader": {"type": "jsonl", "paths": text.files, "metadata": {"url": "url"}}}],
            "filters": filters,
            "dedup": {"exact": True, "minhash": {} if minhash else None},
            "tokenizer": {"type": "given", "path": text.tokenizer},
            # so many shards that two workers share them
            "shards": {"chunk_tokens": 1 << 18, "shard_tokens": max(1 << 18, text.text_bytes // 3 // 8)},
            "workers": workers,
        }
    )
    with Stopwatch() as watch:
        prep(config, Console(file=sys.stderr))
    return _measure(scratch, watch)


def _measure(scratch: Path, watch: Stopwatch) -> Run:
    corpus, work = scratch / "corpus", scratch / "corpus.work"
    source = json.loads((corpus / "manifest.json").read_bytes())["statistics"]["sources"]["text"]
    figures = json.loads((corpus / "prep.json").read_bytes())
    shards = [path for name in ("shards", "validation") for path in (corpus / name).rglob("*.tar")]
    documents_bytes = sum(path.stat().st_size for path in work.glob("read/*/documents"))
    read_bytes = sum(path.stat().st_size for path in work.glob("read/*/*"))
    later_bytes = sum(path.stat().st_size for path in work.rglob("*") if path.is_file()) - read_bytes
    shard_bytes = sum(path.stat().st_size for path in shards)
    tokens = _tokens(corpus)
    return Run(
        watch,
        tokens,
        {
            "phases": figures["seconds"],
            "read": source["read"],
            "kept": source["kept"],
            "kept_bytes": source["text_bytes"],
            "documents_bytes": documents_bytes,
            "row_bytes": read_bytes - documents_bytes,
            "other_bytes": later_bytes - shard_bytes,
            "shard_bytes": shard_bytes,
        },
    )


def _tokens(corpus: Path) -> int:
    from pipeline.corpus.corpus import Corpus

    manifest = Corpus(corpus).manifest
    return sum(
        shard.tokens
        for split in ("train", "validation")
        for group in manifest.sources(split).values()
        for shard in group
    )


def minhash(text: Text, scratch: Path) -> Run:
    """The same with near-duplicates."""
    return tarmac(text, scratch, minhash=True)


def filters(text: Text, scratch: Path) -> Run:
    """The same with near-duplicates and a chain of filters like FineWeb's."""
    names = ("gopher_repetition", "gopher_quality", "fineweb_quality", "personal_data")
    chain: list[dict[str, Any]] = [{"type": "language", "keep": ["en"]}, *({"type": name} for name in names)]
    chain.insert(3, {"type": "c4_quality", "require_terminal_punctuation": False})
    return tarmac(text, scratch, minhash=True, filters=tuple(chain))


def two_workers(text: Text, scratch: Path) -> Run:
    """Two worker processes."""
    return tarmac(text, scratch, workers=2)


def memory(text: Text, scratch: Path) -> Run:
    """Two workers and near-duplicates."""
    return tarmac(text, scratch, workers=2, minhash=True)


def encoder(text: Text, scratch: Path) -> Run:
    """Tarmac's encoder alone; texts are in memory and ids are dropped."""
    from data_prep.encoding.encoder import choose_encoder
    from pipeline.tokenizer.load import load_tokenizer

    made = choose_encoder(load_tokenizer(text.tokenizer), "auto")
    batches = list(_batches(text))
    with Stopwatch() as watch:
        tokens = sum(len(made.encode(batch)[0]) for batch in batches)
    return Run(watch, tokens + text.documents, {"encoder": made.name})


def sentencepiece(text: Text, scratch: Path) -> Run:
    """Sentencepiece alone; texts are in memory and ids are dropped."""
    from sentencepiece import SentencePieceProcessor

    processor = SentencePieceProcessor(model_file=f"{text.tokenizer}/tokenizer.model")
    batches = list(_batches(text))
    with Stopwatch() as watch:
        tokens = sum(len(ids) for batch in batches for ids in processor.Encode(batch, num_threads=1))
    return Run(watch, tokens + text.documents)


def _batches(text: Text) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents(text):
        batch.append(document)
        size += len(document)
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def datasets(text: Text, scratch: Path) -> Run:
    """Hugging Face datasets: load, map in batches with a tokenizer of tokenizers, save."""
    import datasets as library
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(_huggingface(text, scratch))
    eos: Any = tokenizer.token_to_id("</s>")

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[*found.ids, eos] for found in tokenizer.encode_batch_fast(batch["text"])]}

    with Stopwatch() as watch:
        loaded = library.load_dataset("json", data_files=text.files, split="train", cache_dir=str(scratch / "cache"))
        mapped = loaded.map(encode, batched=True, remove_columns=loaded.column_names, new_fingerprint="benchmark")
        mapped.save_to_disk(str(scratch / "saved"))
    return Run(watch, sum(len(lists.flatten()) for lists in mapped.data["input_ids"].chunks))


def datatrove(text: Text, scratch: Path) -> Run:
    """datatrove: read, tokenize with EOS and shuffle, merge into one file."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger

    tokenizer = _huggingface(text, scratch)
    steps: list[Any] = [
        JsonlReader(str(Path(text.folder, "text"))),
        DocumentTokenizer(str(scratch / "tokens"), tokenizer, eos_token="</s>", seed=0),
    ]
    merger = DocumentTokenizerMerger(str(scratch / "tokens"), str(scratch / "merged"), "merged", seed=0, progress=False)
    with Stopwatch() as watch:
        for name, pipeline in (("tokens", steps), ("merge", [merger])):
            LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=str(scratch / "logs" / name)).run()
    return Run(watch, sum(path.stat().st_size for path in (scratch / "merged").glob("*.ds")) // 2)


def _huggingface(text: Text, scratch: Path) -> str:
    """The tokenizer as `tokenizer.json`."""
    from pipeline.tokenizer.convert import write_huggingface
    from pipeline.tokenizer.load import load_tokenizer

    write_huggingface(load_tokenizer(text.tokenizer), scratch / "huggingface")
    return str(scratch / "huggingface" / "tokenizer.json")


def plan_files(text: Text, scratch: Path, number: int = 100_000) -> Run:
    """List many small files and divide them into tasks."""
    from data_prep.plan import plan_sources, read_tasks
    from pipeline.config.prep.recipe import PrepConfig

    for place in range(number):
        folder = scratch / "small" / f"{place // 1000:03d}"
        if place % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{place:06d}.txt").write_text("a small file\n")
    source = {"name": "small", "reader": {"type": "text", "paths": [str(scratch / "small")]}}
    tokenizer = {"type": "given", "path": text.tokenizer}
    config = PrepConfig.model_validate(
        {"stage": "prep", "output": str(scratch / "corpus"), "sources": [source], "tokenizer": tokenizer}
    )
    with Stopwatch() as watch:
        [plan] = plan_sources(config)
        tasks = read_tasks(config, plan)
    assert len(plan.files) == number
    return Run(watch, 0, {"files": number, "tasks": len(tasks)})


CONTENDERS: dict[str, Callable[[Text, Path], Run]] = {
    "tarmac": tarmac,
    "encoder": encoder,
    "sentencepiece": sentencepiece,
    "datasets": datasets,
    "datatrove": datatrove,
    "minhash": minhash,
    "filters": filters,
    "two-workers": two_workers,
    "memory": memory,
    "files": plan_files,
}
"""By name."""


def main() -> None:
    """Run one."""
    name, folder, scratch = sys.argv[1:]
    text = Text(**json.loads(Path(folder, "text.json").read_text()))
    found = CONTENDERS[name](text, Path(scratch))
    print()
    seconds, cpu_seconds = found.watch.seconds, found.watch.cpu_seconds
    figures = {"seconds": seconds, "cpu_seconds": cpu_seconds, "tokens": found.tokens, "peak_mib": found.watch.peak_mib}
    print(json.dumps({**figures, **found.details}))


if __name__ == "__main__":
    main()
