# ruff: noqa: F811  # fixtures have the names that they are asked for by
"""A run whose corpus is in an object store behind a network that fails learns what it learns from a local one."""

from pathlib import Path

import fsspec
import pytest

from tests.integration.conftest import Command, rows, write_recipe
from tests.integration.flawed_proxy import FlawedProxy
from tests.integration.test_readers_s3 import bucket, endpoint  # noqa: F401


def test_a_run_learns_the_same(
    bucket: fsspec.AbstractFileSystem,
    endpoint: str,
    corpus: Path,
    tarmac: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket.put(f"{corpus}/", "crawl/corpus/", recursive=True)
    proxy = FlawedProxy(endpoint)
    proxy.flaws = {"manifest.json": ["busy"], ".tar": ["truncated", "forged", "reset"]}
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    losses = []
    for place in (str(corpus), "s3://crawl/corpus"):
        data = {"type": "corpus", "sources": [{"corpus": place, "source": "code"}], "sequence_length": 64}
        cache = {"cache": {"folder": str(tmp_path / "cache"), "first_pause_seconds": 0.01}}
        output = tmp_path / f"run{len(losses)}"
        tarmac("train", write_recipe(tmp_path / "run.yaml", corpus, output, data={**data, **cache}))
        losses.append([row["train/loss"] for row in rows(output / "metrics.jsonl") if "train/loss" in row])
    proxy.close()
    assert losses[0]
    assert losses[0] == losses[1]
    assert not proxy.flaws[".tar"]
