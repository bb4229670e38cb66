from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import plan as plan_module
from data_prep.plan import SourcePlan, plan_sources
from data_prep.readers.files import InputFile
from pipeline.config.load import validate
from pipeline.config.prep import PrepConfig, Source
from pipeline.errors import ConfigError


def config_for(folder: Path, **values: Any) -> PrepConfig:
    sources = [{"name": "web", "reader": {"type": "text", "paths": [str(folder)]}}]
    tokenizer = {"type": "train", "vocab_size": 300}
    base = {"stage": "prep", "output": "out", "sources": sources, "tokenizer": tokenizer}
    return validate(PrepConfig, {**base, **values}, "test")


def test_a_shard_for_each_so_many_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 3000)
    shards = {"chunk_tokens": 10, "shard_tokens": 100}
    (plan,) = plan_sources(config_for(tmp_path, shards=shards, validation_share=0.2))
    assert (plan.num_buckets, plan.num_validation_shards) == (10, 2)
    (plan,) = plan_sources(config_for(tmp_path))
    assert (plan.num_buckets, plan.num_validation_shards) == (1, 1)


def test_compressed_bytes_count_for_more() -> None:
    assert InputFile("a.jsonl.zst", "a.jsonl.zst", 10).text_bytes > InputFile("a.jsonl", "a.jsonl", 10).text_bytes


@given(st.lists(st.integers(0, 3 * plan_module.TASK_BYTES), max_size=30))
def test_tasks_hold_each_file_once_in_order(sizes: list[int]) -> None:
    files = tuple(InputFile(f"{number}", f"{number}", size) for number, size in enumerate(sizes))
    source = Source.model_validate({"name": "web", "reader": {"type": "stdlib"}})
    tasks = SourcePlan(0, source, files, 1, 1).tasks
    assert [file for task in tasks for file in task] == list(files)
    for task in tasks[:-1]:
        assert sum(file.bytes for file in task) >= plan_module.TASK_BYTES > sum(file.bytes for file in task[:-1])


def test_huge_inputs_make_no_more_tasks_than_a_bucket_can_look_into() -> None:
    files = tuple(InputFile(f"{number}", f"{number}", 1 << 40) for number in range(3 * plan_module.MAX_TASKS))
    source = Source.model_validate({"name": "web", "reader": {"type": "stdlib"}})
    assert len(SourcePlan(0, source, files, 1, 1).tasks) <= plan_module.MAX_TASKS


def test_the_inputs_checksum_sees_names_and_sizes(tmp_path: Path) -> None:
    checksums = set()
    for name, content in (("a.txt", "x"), ("a.txt", "xx"), ("b.txt", "xx")):
        for old in tmp_path.iterdir():
            old.unlink()
        (tmp_path / name).write_text(content)
        checksums.add(plan_sources(config_for(tmp_path))[0].inputs_sha256)
    assert len(checksums) == 3


def test_a_source_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.0\.reader\.paths: '.*' matches no file"):
        plan_sources(config_for(tmp_path))
