from typing import Any

import pytest

from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.errors import ConfigError

URL: dict[str, Any] = {"type": "url", "domains": ["bad.example"]}
LANGUAGE: dict[str, Any] = {"type": "language", "keep": ["en"]}
CUSTOM: dict[str, Any] = {"type": "custom", "function": "a:b"}
PLAIN: dict[str, Any] = {"type": "jsonl", "paths": ["a"]}
MAPPED: dict[str, Any] = {**PLAIN, "metadata": {"url": "meta.url"}}
WARC: dict[str, Any] = {"type": "warc", "paths": ["a"]}


def load(readers: list[dict[str, Any]], metadata: list[str] | None = None, own: Any = None, filters: Any = ()) -> None:
    sources = [{"name": f"s{number}", "reader": reader} for number, reader in enumerate(readers)]
    sources[0]["filters"] = own
    values = {"stage": "prep", "output": "o", "sources": sources, "filters": filters}
    tokenizer = {"type": "train", "vocab_size": 4000}
    validate(PrepConfig, {**values, "tokenizer": tokenizer, "shards": {"metadata": metadata or []}}, "test")


@pytest.mark.parametrize("readers", [[MAPPED], [WARC], [MAPPED, PLAIN]])
def test_a_url_filter_of_documents_with_url(readers: list[dict[str, Any]]) -> None:
    load(readers, ["url"], filters=[URL])


def test_a_url_filter_of_documents_without_url() -> None:
    with pytest.raises(ConfigError, match=r"filters holds a url filter, but the documents have no `url`; map it"):
        load([PLAIN, {"type": "stdlib"}], filters=[URL])
    with pytest.raises(ConfigError, match=r"a source's filters holds a url filter"):
        load([PLAIN, MAPPED], own=[URL])
    load([PLAIN], filters=[CUSTOM, URL])


def test_metadata_of_shards_is_mapped_or_added() -> None:
    load([PLAIN, MAPPED], ["url"])
    load([PLAIN], ["language"], filters=[LANGUAGE])
    load([PLAIN], ["anything"], own=[CUSTOM])
    with pytest.raises(ConfigError, match=r"shards\.metadata names id, language, which no reader maps and no filter"):
        load([MAPPED], ["url", "id", "language"])
