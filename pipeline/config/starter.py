"""A starter config with every key, its default and a comment, generated from the classes: never behind them."""

import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.stages import COMMANDS, STAGES
from pipeline.errors import ConfigError

_EXAMPLES: dict[str, dict[str, Any]] = {
    "prep": {
        "output": "data/my-corpus",
        "sources": [{"name": "web", "reader": {"type": "jsonl", "paths": ["raw/*.jsonl.gz"]}}],
        "tokenizer": {"type": "train", "vocab_size": 32768},
    },
    "pretrain": {
        "output": "runs/my-run",
        "model": {"type": "llama", "hidden_size": 768, "intermediate_size": 2048, "num_layers": 12, "num_heads": 12,
                  "num_key_value_heads": 12},
        "data": {"type": "corpus", "sources": [{"corpus": "data/my-corpus", "source": "web"}], "sequence_length": 2048},
        "batch": {"global_size": 256, "micro_size": 8},
        "duration": {"steps": 10000},
        "optimizer": {"type": "adamw", "lr": 6e-4},
    },
    "finetune": {
        "output": "runs/my-sft",
        "model": {"type": "checkpoint", "run": "runs/my-run"},
        "data": {"type": "instruct", "train": "chats/train.jsonl", "validation": "chats/validation.jsonl",
                 "sequence_length": 2048},
        "batch": {"global_size": 64, "micro_size": 8},
        "duration": {"steps": 1000},
        "optimizer": {"type": "adamw", "lr": 2e-5},
    },
    "evaluate": {
        "output": "evaluations/my-evaluation.json",
        "models": {"mine": "runs/my-run"},
        "sets": {"web": {"type": "corpus", "corpus": "data/my-corpus", "sequence_length": 2048}},
    },
    "export": {"run": "runs/my-run", "output": "exports/my-model"},
}  # fmt: skip


def write_starter(path: str | Path, stage: str) -> None:
    """Write a starter config. Raises ConfigError if the file exists or cannot be written."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(starter_text(stage))
    except FileExistsError as error:
        raise ConfigError(f"{path} exists; choose another file name") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; choose another place") from error


def starter_text(stage: str) -> str:
    """The starter config of a stage as commented YAML."""
    values = {"stage": stage, **_EXAMPLES[stage]}
    header = f"# Run it with: tarmac {COMMANDS[stage]} FILE [section.key=value ...]   (--dry-run shows what it means)\n"
    return header + "\n".join(_lines(STAGES[stage], values, 0)) + "\n"


def _lines(kind: type[BaseModel], values: dict[str, Any], depth: int) -> Iterator[str]:
    """A block's keys, those with an example first written plainly, the rest with their defaults."""
    indent = "  " * depth
    for name, field in kind.model_fields.items():
        value = values.get(name, _default(field))
        if value is ...:
            continue
        comment = f"{indent}# "
        yield from textwrap.wrap(field.description or "", 110, initial_indent=comment, subsequent_indent=comment)
        yield from _value(f"{indent}{name}:", field.annotation, value, depth)


def _value(key: str, annotation: Any, value: Any, depth: int) -> Iterator[str]:
    """A key with its value: a block, a list of blocks, or one line."""
    if isinstance(value, list) and value and (inner := _block(get_args(annotation)[0], value[0])) is not None:
        yield key
        for item in value:
            yield from _item(list(_lines(inner, item, depth + 2)), depth + 1)
    elif isinstance(value, dict) and (inner := _block(annotation, value)) is not None:
        yield key
        yield from _lines(inner, value, depth + 1)
    else:
        yield f"{key} {_scalar(value)}"


def _item(lines: list[str], depth: int) -> list[str]:
    """The lines of a block as an item of a list: its first key gets the dash, comments above it stay above."""
    first = next(number for number, line in enumerate(lines) if not line.lstrip().startswith("#"))
    indent = "  " * depth
    comments = [indent + line.lstrip() for line in lines[:first]]
    return [*comments, f"{indent}- {lines[first].lstrip()}", *lines[first + 1 :]]


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return default.model_dump(mode="json")
    return ... if field.is_required() else default


def _block(annotation: Any, value: Any) -> type[BaseModel] | None:
    """The config class of a nested block, chosen by its `type` where there are several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType) and isinstance(value, dict):
        for choice in get_args(annotation):
            block = _block(choice, value)
            kind = block.model_fields.get("type") if block else None  # a block of one form, that may be null, has none
            if block and (kind is None or value.get("type") in get_args(kind.annotation)):
                return block
    return _block(get_args(annotation)[0], value) if get_origin(annotation) not in (None, Literal, Union) else None


def _scalar(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
    return text.removesuffix("\n...\n").strip()
