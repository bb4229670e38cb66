"""Recipes from a few texts to figures, that need each other."""

import json
from pathlib import Path
from typing import Any

import yaml

from tests.faults.runs import write_recipe
from tests.unit.small import small_texts


def write_chain(folder: Path, num_steps: int, **prep: Any) -> dict[str, Path]:
    """Preparation, training by small steps, fine-tuning and figures, in their order; all results lie in the folder."""
    write_lines(folder / "texts.jsonl", [{"text": text} for text in small_texts(600)])
    pairs = [{"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "It adds."}]}
             for text in small_texts(40)]  # fmt: skip
    write_lines(folder / "pairs.jsonl", pairs)
    corpus, instruct = str(folder / "corpus"), str(folder / "pairs.jsonl")
    preparation = {
        "stage": "prep", "output": corpus, "validation_share": 0.1,
        "sources": [{"name": "small", "reader": {"type": "jsonl", "paths": [str(folder / "texts.jsonl")]}}],
        "tokenizer": {"type": "train", "vocab_size": 400, "sample_bytes": 1_000_000},
        "shards": {"chunk_tokens": 1024, "shard_tokens": 65_536}, **prep,
    }  # fmt: skip
    finetune = {
        "stage": "finetune", "model": {"type": "checkpoint", "run": str(folder / "train")},
        "data": {"type": "instruct", "train": instruct, "validation": instruct, "sequence_length": 128},
        "duration": {"steps": 3},
    }  # fmt: skip
    evaluate = {
        "stage": "evaluate", "output": str(folder / "figures.json"),
        "models": {"trained": str(folder / "train"), "tuned": str(folder / "finetune")},
        "sets": {"text": {"type": "corpus", "corpus": corpus, "sequence_length": 32}}, "max_sequences": 16,
    }  # fmt: skip
    slow = {"batch": {"global_size": 48, "micro_size": 2}, "duration": {"steps": num_steps}}
    return {
        "prep": write(folder / "prep.yaml", preparation),
        "train": write_recipe(folder / "train.yaml", Path(corpus), **slow),
        "finetune": write_recipe(folder / "finetune.yaml", Path(corpus), **finetune),
        "eval": write(folder / "eval.yaml", evaluate),
    }


def write(path: Path, value: Any) -> Path:
    path.write_text(yaml.safe_dump(value))
    return path


def write_lines(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
