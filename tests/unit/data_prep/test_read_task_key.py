from dataclasses import replace
from pathlib import Path
from typing import Any

from data_prep.filters.base import HeldOutSet
from data_prep.plan import plan_sources, read_tasks
from data_prep.reading.task import ReadTask
from data_prep.tasks.code import code_identity
from pipeline.config.prep.recipe import MinHash, PrepConfig


def only_task(
    path: Path, reader: str, *filters: str, held_out: HeldOutSet | None = None, minhash: MinHash | None = None
) -> ReadTask:
    """The one reading task of such a config."""
    path.write_text("text")
    source: dict[str, Any] = {"name": "source", "reader": {"type": reader, "paths": [str(path)]}}
    config = PrepConfig.model_validate(
        {
            "stage": "prep",
            "output": "corpus",
            "sources": [source],
            "filters": [{"type": name} for name in filters],
            "dedup": {"minhash": minhash},
            "tokenizer": {"type": "train", "vocab_size": 300},
        }
    )
    [task] = read_tasks(config, replace(plan_sources(config)[0], held_out=held_out))
    return task


def libraries(path: Path, reader: str, *filters: str) -> set[str]:
    """What a reading task of such a config uses."""
    return set(code_identity(only_task(path, reader, *filters).modules))


def test_other_readers_and_filters_are_no_part_of_a_key(tmp_path: Path) -> None:
    path = tmp_path / "input"
    assert not {"pyarrow", "fastwarc", "datasets", "regex"} & libraries(path, "text")
    assert "pyarrow" in libraries(path, "parquet")
    assert {"xxhash", "numpy"} < libraries(path, "text")
    assert libraries(path, "text", "gopher_quality") - libraries(path, "text")


def test_signatures_are_part_of_a_key_only_where_they_are_made(tmp_path: Path) -> None:
    without, with_them = (only_task(tmp_path / "input", "text", minhash=config) for config in (None, MinHash()))
    assert "rensa" not in code_identity(without.modules)
    assert "rensa" in code_identity(with_them.modules)
    assert code_identity(without.modules)["code"] != code_identity(with_them.modules)["code"]


def test_what_a_source_is_kept_apart_from_is_part_of_its_key_and_not_where_that_lies(tmp_path: Path) -> None:
    held_out = HeldOutSet("digest", 13, 0.2, "held_out/key")
    known = only_task(tmp_path / "input", "text", held_out=held_out)
    assert replace(known, held_out=replace(held_out, path="elsewhere")).key == known.key
    others = [replace(held_out, digest=""), replace(held_out, ngram=8), replace(held_out, max_share=0.5), None]
    assert len({known.key, *(replace(known, held_out=other).key for other in others)}) == 5
    assert "data_prep.filters.overlap" in known.modules
    assert "data_prep.filters.overlap" not in only_task(tmp_path / "input", "text").modules
