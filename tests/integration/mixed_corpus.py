"""A corpus of many forms out of the folder of real data: JSON lines, parquet, WARC and text, all by one config."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import zstandard

from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig


def write_inputs(data: Path, folder: Path) -> None:
    """`summaries.parquet` and `problems.jsonl.zst`, from the papers and school problems of the real data."""
    papers = [json.loads(line) for line in (data / "scitldr" / "train.jsonl").read_text().splitlines()]
    texts = [" ".join(paper["source"]) for paper in papers]
    table = pyarrow.table({"body": texts, "paper": [paper["paper_id"] for paper in papers]})
    pyarrow.parquet.write_table(table, folder / "summaries.parquet", row_group_size=100)
    problems = (data / "gsm8k" / "train.jsonl").read_bytes()
    (folder / "problems.jsonl.zst").write_bytes(zstandard.compress(problems))


def mixed_config(data: Path, folder: Path, output: Path, **values: Any) -> PrepConfig:
    """Filters, both kinds of deduplication, decontamination, tokenizer training; `folder` holds `write_inputs`'."""
    novels = {"type": "text", "paths": [str(data / "british_fiction")], "document": "paragraph"}
    papers = {"type": "parquet", "paths": [str(folder / "summaries.parquet")], "text_field": "body",
              "metadata": {"id": "paper"}}  # fmt: skip
    problems = {"type": "jsonl", "paths": [str(folder / "*.jsonl.zst")], "text_field": "question"}
    web = {"type": "warc", "paths": [str(data / "webcrawl")]}
    evaluation = {"type": "decontaminate", "paths": [str(data / "scitldr" / "dev.jsonl")]}
    sources = [
        {"name": "novels", "reader": novels},
        {"name": "papers", "reader": papers, "filters": [{"type": "gopher_repetition"}, evaluation]},
        {"name": "problems", "reader": problems},
        {"name": "web", "reader": web, "max_rejected_share": 0.5,
         "filters": [{"type": "language", "keep": ["en"]}, {"type": "personal_data"}]},
    ]  # fmt: skip
    base = {
        "stage": "prep",
        "output": str(output),
        "sources": sources,
        "dedup": {"minhash": {}},
        "validation_share": 0.02,
        "test_share": 0.01,
        "tokenizer": {"type": "train", "vocab_size": 4096, "sample_bytes": 2_000_000},
        "shards": {"chunk_tokens": 65_536, "shard_tokens": 524_288},
        "workers": 1,
    }
    return validate(PrepConfig, {**base, **values}, "test")
