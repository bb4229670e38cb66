from pathlib import Path
from typing import Any

from data_prep.plan import plan_sources, read_tasks
from data_prep.tasks.code import code_identity
from pipeline.config.prep.recipe import PrepConfig


def libraries(path: Path, reader: str, *filters: str) -> set[str]:
    """What a reading task of such a config uses."""
    path.write_text("text")
    source: dict[str, Any] = {"name": "source", "reader": {"type": reader, "paths": [str(path)]}}
    config = PrepConfig.model_validate(
        {
            "stage": "prep",
            "output": "corpus",
            "sources": [source],
            "filters": [{"type": name} for name in filters],
            "tokenizer": {"type": "train", "vocab_size": 300},
        }
    )
    [task] = read_tasks(config, plan_sources(config)[0])
    return set(code_identity(task.modules))


def test_other_readers_and_filters_are_no_part_of_a_key(tmp_path: Path) -> None:
    path = tmp_path / "input"
    assert not {"pyarrow", "fastwarc", "datasets", "regex"} & libraries(path, "text")
    assert "pyarrow" in libraries(path, "parquet")
    assert {"xxhash", "numpy"} < libraries(path, "text")
    assert libraries(path, "text", "gopher_quality") - libraries(path, "text")
