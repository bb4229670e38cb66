import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_prep import plan as plan_module
from data_prep.plan import MAX_TASKS, TASK_BYTES, group_files, plan_sources, read_tasks
from data_prep.readers.files import InputFile
from data_prep.reading.task import ReadTask
from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError

SIZES = st.one_of(st.integers(0, 2 * TASK_BYTES), st.sampled_from([0, TASK_BYTES // 3, TASK_BYTES - 1, TASK_BYTES]))


def input_file(number: int, size: int, folder: str = "deep") -> InputFile:
    origin = f"{folder}/{number:07d}.txt"
    return InputFile(f"/data/{origin}", origin, size, "1")


def config_for(*paths: Path, source: dict[str, Any] | None = None, **values: Any) -> PrepConfig:
    first = {"name": "web", "reader": {"type": "text", "paths": [str(path) for path in paths]}, **(source or {})}
    tokenizer = {"type": "train", "vocab_size": 300}
    base = {"stage": "prep", "output": "out", "sources": [first], "tokenizer": tokenizer}
    return validate(PrepConfig, {**base, **values}, "test")


def tasks_of(*paths: Path, source: dict[str, Any] | None = None, **values: Any) -> list[ReadTask]:
    config = config_for(*paths, source=source, **values)
    return read_tasks(config, plan_sources(config)[0])


def keys_of(*paths: Path, source: dict[str, Any] | None = None, **values: Any) -> list[str]:
    return [task.key for task in tasks_of(*paths, source=source, **values)]


# groups


@given(st.lists(SIZES, max_size=60))
def test_each_file_is_in_one_group_and_in_order(sizes: list[int]) -> None:
    files = [input_file(number, size) for number, size in enumerate(sizes)]
    groups = list(group_files(files))
    assert [file for group in groups for file in group] == files
    assert all(groups)


@given(st.lists(SIZES, min_size=1, max_size=60), st.integers(0, 59))
@example([TASK_BYTES // 2 - 1] * 60, 20)
def test_a_file_that_comes_or_goes_changes_the_groups_next_to_it_only(sizes: list[int], which: int) -> None:
    files = [input_file(number, size) for number, size in enumerate(sizes)]
    removed = files[which % len(files)]
    more, fewer = list(group_files(files)), list(group_files([file for file in files if file != removed]))
    changed = [number for number, group in enumerate(more) if group not in fewer]
    (own,) = (number for number, group in enumerate(more) if removed in group)
    assert set(changed) <= {own, own + 1}
    assert sum(group not in more for group in fewer) <= 1


@given(st.lists(SIZES, min_size=1, max_size=60))
def test_a_large_file_is_read_with_smaller_ones_at_most(sizes: list[int]) -> None:
    for group in group_files([input_file(number, size) for number, size in enumerate(sizes)]):
        assert all(file.bytes < TASK_BYTES for file in group[:-1])


@pytest.mark.parametrize("size", [10_000, 1_000_000, TASK_BYTES // 2, TASK_BYTES * 10])
def test_groups_are_about_as_large_as_a_task(size: int) -> None:
    files = [input_file(number, size) for number in range(400 * TASK_BYTES // min(size, TASK_BYTES))]
    groups = list(group_files(files))
    wanted = len(files) * size / max(size, TASK_BYTES)
    assert 0.85 * wanted <= len(groups) <= 1.15 * wanted
    assert max(len(group) for group in groups) * size <= 12 * max(size, TASK_BYTES)


@pytest.mark.parametrize("folders", [("a",), ("a", "b", "c")])
def test_huge_inputs_make_no_more_tasks_than_a_shard_can_look_into(folders: Sequence[str]) -> None:
    files = [input_file(number, 1 << 40, folder) for folder in folders for number in range(MAX_TASKS)]
    assert len(list(group_files(files))) <= 1.05 * MAX_TASKS


@pytest.mark.parametrize("path", ["hf-dataset:org/name#{}/64", "https://host/{}.jsonl"])
def test_files_of_unknown_size_are_tasks_of_their_own(path: str) -> None:
    files = [InputFile(path.format(number), f"name#{number:05d}-of-00064", 0, "1") for number in range(64)]
    assert list(group_files(files)) == [(file,) for file in files]


def test_empty_files_share_a_task() -> None:
    assert len(list(group_files([input_file(number, 0) for number in range(64)]))) == 1


# plans and tasks


def test_a_source_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sources\.0\.reader\.paths: '.*' matches no file"):
        plan_sources(config_for(tmp_path))


def test_a_plan_lists_the_files_of_each_source(tmp_path: Path) -> None:
    for name, content in (("b.txt", "four"), ("a.txt", "x")):
        (tmp_path / name).write_text(content)
    config = config_for(tmp_path)
    second = config.sources[0].model_copy(update={"name": "again"})
    plans = plan_sources(config.model_copy(update={"sources": (*config.sources, second)}))
    assert [plan.source.name for plan in plans] == ["web", "again"]
    assert [file.origin for file in plans[0].files] == ["a.txt", "b.txt"]
    assert (plans[0].bytes, plans[0].text_bytes) == (5, 5)


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files, each read by a task of its own."""
    monkeypatch.setattr(plan_module, "TASK_BYTES", 1)
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    return tmp_path


def test_where_the_work_runs_and_what_comes_later_changes_no_reading_task(corpus: Path) -> None:
    base = keys_of(corpus)
    assert len(set(base)) == 3
    for values in (
        {"workers": 7, "executor": {"type": "slurm"}, "output": "elsewhere", "work": "w", "keep_work": "everything"},
        {"tokenizer": {"type": "train", "vocab_size": 999}, "shards": {"chunk_tokens": 8, "shard_tokens": 9}},
        {"pairs": {"enabled": True}, "dedup": {"exact": False}, "source": {"max_rejected_share": 0.5}},
    ):
        assert keys_of(corpus, **values) == base


@pytest.mark.parametrize(
    "values",
    [
        {"cleaning": {"min_characters": 3}},
        {"filters": [{"type": "c4_quality"}]},
        {"source": {"filters": [{"type": "c4_quality"}]}},
        {"source": {"name": "other"}},
        {"seed": 1},
        {"validation_share": 0.3},
        {"test_share": 0.3},
        {"dedup": {"minhash": {}}},
        {"write_dropped": True},
    ],
    ids=str,
)
def test_what_reading_does_changes_every_reading_task(corpus: Path, values: dict[str, Any]) -> None:
    assert not set(keys_of(corpus, **values)) & set(keys_of(corpus))


def test_options_of_the_reader_change_every_reading_task(corpus: Path) -> None:
    reader = {"type": "text", "paths": [str(corpus)], "document": "paragraph"}
    assert not set(keys_of(corpus, source={"reader": reader})) & set(keys_of(corpus))


def test_another_path_in_the_config_changes_no_task_of_other_files(corpus: Path) -> None:
    two = keys_of(corpus / "a.txt", corpus / "b.txt")
    assert keys_of(corpus / "a.txt", corpus / "b.txt", corpus / "c.txt") == [*two, *keys_of(corpus)[2:]]
    assert keys_of(corpus / "a.txt") == two[:1]


def test_a_changed_file_changes_its_task(corpus: Path) -> None:
    before = keys_of(corpus)
    os.utime(corpus / "b.txt", ns=(1, 1))
    touched = keys_of(corpus)
    (corpus / "b.txt").write_text("longer than it was before")
    os.utime(corpus / "b.txt", ns=(1, 1))
    longer = keys_of(corpus)
    for keys in (touched, longer):
        assert (keys[0], keys[2]) == (before[0], before[2])
    assert len({before[1], touched[1], longer[1]}) == 3


def test_a_source_may_have_filters_of_its_own(corpus: Path) -> None:
    common, own = [{"type": "c4_quality"}], [{"type": "gopher_quality"}]
    (task, *_) = tasks_of(corpus, filters=common)
    assert [one.type for one in task.filters] == ["c4_quality"]
    (task, *_) = tasks_of(corpus, filters=common, source={"filters": own})
    assert [one.type for one in task.filters] == ["gopher_quality"]
    (task, *_) = tasks_of(corpus, filters=common, source={"filters": []})
    assert task.filters == ()


def test_a_file_that_a_filter_reads_is_part_of_the_key(corpus: Path) -> None:
    held_out = corpus / "evaluation"
    held_out.write_text("one two three four five six seven eight nine ten eleven twelve thirteen fourteen")
    filters = [{"type": "decontaminate", "paths": [str(held_out)]}]
    before = keys_of(corpus, filters=filters)
    stat = held_out.stat()
    held_out.write_text(held_out.read_text().replace("two", "too"))
    os.utime(held_out, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not set(keys_of(corpus, filters=filters)) & set(before)


def test_the_size_at_which_all_of_a_source_is_read_again_is_the_documented_one() -> None:
    """docs/data-prep.md names it among what is done again."""
    files = [input_file(number, 2**24) for number in range(128 * 2**30 // 2**24)]
    below, before = list(group_files(files[:-1])), list(group_files(files))
    after = list(group_files([*files, input_file(10**6, 1)]))
    assert below[:-2] == before[: len(below) - 2]
    assert len(after) < 0.6 * len(before)
