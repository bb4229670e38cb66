"""Three sources of real text, and a run in which all happens to its data that can be planned."""

import gzip
import json
import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.corpus.corpus import Corpus

STEPS = 28
KILLS = ("1:14", "0:23")
"""Rank and step, counted from 1: between two checkpoints, in other phases than those are."""


def prep_config(data: Path, folder: Path) -> dict[str, Any]:
    """Long documents, paragraphs and web pages; shards so small that a run opens several."""
    novels = [str(data / "british_fiction" / f"{name}.txt") for name in ("ABronte_Agnes", "Sterne_Sentimental")]
    readers = {
        "novels": {"type": "text", "document": "paragraph", "paths": novels},
        "wiki": {"type": "text", "document": "paragraph", "paths": [str(data / "wikitext2" / "valid.txt")]},
        "web": {"type": "jsonl", "paths": [str(data / "webcrawl" / "c4" / "c4-sample.0[12].json.gz")]},
    }
    return {
        "stage": "prep", "output": str(folder), "validation_share": 0.05, "workers": 1,
        "sources": [{"name": name, "reader": reader} for name, reader in readers.items()],
        "tokenizer": {"type": "train", "vocab_size": 1024, "sample_bytes": 500_000},
        "shards": {"chunk_tokens": 2048, "shard_tokens": 7000},
    }  # fmt: skip


def mixture(corpus: Path, **weights: float) -> list[dict[str, Any]]:
    """Sources as a config names them."""
    return [{"corpus": str(corpus), "source": name, "weight": weight} for name, weight in weights.items()]


def withdraw(corpus: Path, path: Path) -> Path:
    """Write every third document's id down."""
    opened = Corpus(corpus)
    ids = [
        span.record.id
        for source, shards in sorted(opened.manifest.train.items())
        for shard in range(len(shards))
        for span in opened.open_shard("train", source, shard).documents()
    ]
    path.write_text("".join(f"{one}\n" for one in ids[::3]))
    return path


def run_data(corpus: Path, withdrawn: Path) -> dict[str, Any]:
    """The data block; steps are counted from 0."""
    return {
        "type": "corpus", "sequence_length": 64, "sources": mixture(corpus, novels=2, wiki=1),
        "phases": [
            {"at_step": 3, "sources": mixture(corpus, novels=1, wiki=3)},
            {"at_step": 6, "sources": mixture(corpus, novels=1, wiki=1, web=2)},
            {"at_step": 9, "sequence_length": 96},
            {"at_step": 12, "global_size": 18},
            {"at_step": 18, "packing": "best_fit"},
            {"at_step": 21, "withdrawn": str(withdrawn)},
            {"at_step": 24, "sources": mixture(corpus, wiki=1, web=3), "sequence_length": 128, "packing": "concat",
             "mask_documents": True},
        ],
        "skip": [[15, 17]],
    }  # fmt: skip


def original_text(data: Path, origin: str, position: int) -> str:
    """The text of a document as its file has it, read in another way than data preparation does."""
    [path] = data.rglob(Path(origin).name)
    return unicodedata.normalize("NFC", _texts(path)[position])


@cache
def _texts(path: Path) -> list[str]:
    """Those of a file's records, or its paragraphs."""
    if path.name.endswith(".json.gz"):
        return [json.loads(line)["text"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    text = path.read_bytes().decode().replace("\r\n", "\n")
    return [one.strip("\n") for one in re.split(r"\n(?:[^\S\n]*\n)+", f"\n\n{text}\n\n") if one.strip()]
