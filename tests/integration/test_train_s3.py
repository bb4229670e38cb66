"""A run whose corpus is in an object store behind a network that fails learns what it learns from a local one.

So do the commands that look at such a run and its corpus; they fetch what they need of it.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from pipeline.cli import main
from pipeline.corpus.corpus import Corpus
from tests.integration.conftest import Command, rows, write_recipe
from tests.integration.flawed_proxy import FlawedProxy

URL = "s3://crawl/corpus"


@pytest.fixture
def proxy(
    bucket: fsspec.AbstractFileSystem, endpoint: str, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlawedProxy]:
    """The corpus at s3://crawl/corpus, behind a proxy."""
    bucket.put(f"{corpus}/", "crawl/corpus/", recursive=True)
    proxy = FlawedProxy(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.close()


class Looking:
    """The commands that look at two runs, with nothing in the cache when they begin."""

    def __init__(self, folder: Path, cache: dict[str, Any], proxy: FlawedProxy, capsys: pytest.CaptureFixture[str]):
        self._folder, self._cache, self._proxy, self._capsys = folder, cache, proxy, capsys

    def said(self, *words: object) -> str:
        assert main([*map(str, words)]) == 0
        return self._capsys.readouterr().out

    def fetched(self) -> set[str]:
        """Shards that came since it was asked last."""
        found = {path for path in self._proxy.gets if path.endswith(".tar")}
        self._proxy.gets.clear()
        for kept in ("shards", "validation", "index", "corpora"):
            shutil.rmtree(f"{self._cache['folder']}/{kept}", ignore_errors=True)
        return found

    def both(self, *words: str) -> list[Any]:
        """JSON of a command, whose words may have a % for the number of the run; each is told without its name."""
        texts = [self.said(*(word.replace("%", str(number)) for word in words), "--json") for number in (0, 1)]
        return [{**json.loads(text), "run": ""} for text in texts]

    def figures(self, name: str, place: str, **checks: object) -> dict[str, Any]:
        values = {
            "stage": "evaluate", "output": str(self._folder / f"{name}.json"), "max_sequences": 4,
            "models": {"run": str(self._folder / "run1")}, **checks,
            "sets": {"text": {"type": "corpus", "corpus": place, "sequence_length": 64, "cache": self._cache}},
        }  # fmt: skip
        (self._folder / "eval.yaml").write_text(yaml.safe_dump(values))
        self.said("eval", self._folder / "eval.yaml")
        found: dict[str, Any] = json.loads((self._folder / f"{name}.json").read_text())
        return found


def test_a_run_learns_and_tells_the_same(
    proxy: FlawedProxy, corpus: Path, forked: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.flaws = {"manifest.json": ["busy"], ".tar": ["truncated", "forged", "reset"]}
    cache = {"folder": str(tmp_path / "cache"), "first_pause_seconds": 0.01}
    losses = []
    for number, place in enumerate((str(corpus), URL)):
        data = {"type": "corpus", "sources": [{"corpus": place, "source": "code"}], "sequence_length": 64}
        recipe = write_recipe(tmp_path / f"{number}.yaml", corpus, tmp_path / f"run{number}",
                              data={**data, "cache": cache})  # fmt: skip
        forked("train", recipe)
        losses.append([row["train/loss"] for row in rows(tmp_path / f"run{number}/metrics.jsonl")
                       if "train/loss" in row])  # fmt: skip
    assert losses[0]
    assert losses[0] == losses[1]
    assert not proxy.flaws[".tar"]
    look = Looking(tmp_path, cache, proxy, capsys)
    look.fetched()
    check_commands(look, corpus, tmp_path)


def check_commands(look: Looking, corpus: Path, folder: Path) -> None:
    """What each says, and what it fetches for that."""
    manifest = Corpus(corpus).manifest
    names = [f"/crawl/corpus/shards/code/{shard.name}" for shard in manifest.train["code"]]
    assert len(names) > 3
    here, there = look.both("data", f"{folder}/%.yaml")
    assert here == there
    assert look.fetched() == set()
    here, there = look.both("explain", f"{folder}/run%", "--step", "3")
    assert here == there
    assert look.fetched() == {names[row["shard"]] for row in here["rows"]}
    document = here["rows"][0]["documents"][0]["id"]
    here, there = look.both("explain", f"{folder}/run%", "--document", document)
    assert here == there
    assert look.fetched() == set(names)
    figures = [look.figures("plain", place) for place in (str(corpus), URL)]
    assert figures[0]["figures"] == figures[1]["figures"]
    assert all("/validation/" in path for path in look.fetched())
    asked = {"checks": [{"type": "below_unigram", "model": "run", "set": "text", "max_ratio": 9.0}]}
    assert look.figures("asked", URL, **asked)["baselines"] == figures[0]["baselines"]
    assert look.fetched() > set(names)
    pages = [Path(look.said("report", folder / f"run{number}").strip()).read_text() for number in (0, 1)]
    assert look.fetched() == set()
    assert "Not shown" not in pages[1]
    tokens = [re.search(r"training tokens.{1,40}\d[\d,\s]*", page, re.DOTALL) for page in pages]
    assert tokens[0]
    assert tokens[1]
    assert tokens[0][0] == tokens[1][0]
