"""A small finished corpus, with figures as `tarmac prep` leaves them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import SPLIT_FOLDERS, Manifest, ShardEntry, Split, TokenizerEntry, write_manifest
from pipeline.corpus.writer import write_shard
from pipeline.runtime.files import write_json
from tests.unit.corpus.build import cut

HOSTILE = '</pre></script><img src=x onerror=alert(2)><b onclick="x">&amp;\u202e'

SOURCES: dict[str, dict[str, Any]] = {
    "web": {
        "files": 3,
        "inputs_sha256": "1" * 64,
        "config_sha256": "2" * 64,
        "read": 9_000,
        "rejected": {"json": 30, "encoding": 12},
        "skipped": {"request": 1_000},
        "dropped": {
            "duplicate": 958,
            "gopher_quality:too_short": 2_000,
            "gopher_quality:symbols": 500,
            "near_duplicate": 497,
            "url:domain": 3,
        },
        "steps": ["cleaning", "url", "language", "gopher_quality"],
        "kept": 5_000,
        "text_bytes": 12_345,
        "encoders": {"gigatoken": 2, "sentencepiece": 1},
        "re_encoded_shards": 1,
        "versions": {"tarmac": "0.1.0", "numpy": "9.8.7"},
    },
    "code": {
        "files": 1,
        "inputs_sha256": "3" * 64,
        "config_sha256": "4" * 64,
        "read": 40,
        "rejected": {},
        "skipped": {},
        "dropped": {},
        "kept": 40,
        "text_bytes": 678,
        "encoders": {"gigatoken": 1},
        "re_encoded_shards": 0,
        "versions": {"tarmac": "0.1.0", "numpy": "9.9.0", "pyarrow": "77.1"},
    },
}
CONTENT: dict[str, Any] = {
    "near_duplicate_clusters": {"2": 120, "3": 14, "4": 1, "10": 7},
    "sources": {
        "web": {
            "documents_by_tokens": [
                {"from": 1, "below": 2, "documents": 11},
                {"from": 1024, "below": 2048, "documents": 33},
            ],
            "languages": {"en": 61, "de": 21},
            "domains": {f"site{number:02d}.org": 100 - number for number in range(25)},
            "samples": [f"Sample {number}. {HOSTILE}" for number in range(4)],
            "dropped_samples": [
                {"reason": "url:domain", "file": f"a{HOSTILE}.warc", "position": 17, "text": f"Dropped {HOSTILE}"},
                {"reason": "gopher_quality:too_short", "file": "b.warc", "position": 18, "text": "x" * 1000},
            ],
        },
        "code": {"documents_by_tokens": [], "languages": {}, "domains": {}, "samples": []},
    },
}
PREP: dict[str, Any] = {
    "seconds": {"read": 30.0, "dedup": 4.0, "shards": 90.0},
    "megabytes_per_second": 4.25,
    "workers": 6,
    "tasks": {"read": 30, "shards": 11},
    "tasks_run": {"read": 30, "shards": 9},
    "inputs": {"web": "5" * 64},
}


def tell_corpus(folder: Path) -> Path:
    """The whole corpus; returns its folder."""
    start_corpus(folder, {"sources": SOURCES})
    write_json(folder / "stats.json", CONTENT)
    write_json(folder / "prep.json", PREP)
    rejects = folder / "rejects"
    rejects.mkdir()
    lines = [
        {"file": f"c{number}.jsonl", "position": 70 + number, "reason": "json", "detail": f"bad {HOSTILE}"}
        for number in range(12)
    ]
    (rejects / "web.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.model").write_bytes(b"")
    return folder


def start_corpus(folder: Path, statistics: dict[str, Any]) -> Manifest:
    """A corpus with a manifest and shards only."""
    manifest = Manifest(
        format_version=2,
        dtype="uint16",
        tokenizer=TokenizerEntry(fingerprint="6" * 64, vocab_size=60_123, eos_id=2),
        config_sha256="7" * 64,
        versions={"tarmac": "0.1.0", "numpy": "9.8.7"},
        train={"web": _shards(folder, "train", "web", [30, 20]), "code": _shards(folder, "train", "code", [7])},
        validation={"web": _shards(folder, "validation", "web", [5])},
        statistics=statistics,
    )
    write_manifest(folder, manifest)
    return manifest


def _shards(folder: Path, split: Split, source: str, sizes: Sequence[int]) -> list[ShardEntry]:
    """Shards of documents of four tokens, 40 bytes each."""
    place = folder / SPLIT_FOLDERS[split] / source
    return [
        write_shard(place / f"{source}-{number:06d}.tar", cut([[5, 6, 7, 2]] * size, 100))
        for number, size in enumerate(sizes)
    ]
