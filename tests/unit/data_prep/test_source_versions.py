import platform
from importlib.metadata import version
from typing import Any

import pytest

from data_prep.corpus.manifest import source_versions
from tests.unit.data_prep.test_existing import config_for, plans_of, source

ALWAYS = {"python", "unicode", "tarmac", "numpy", "sentencepiece", "tokenizers", "xxhash", "zstandard", "ftfy"}
READERS: dict[str, set[str]] = {"text": set(), "parquet": {"pyarrow"}, "warc": {"fastwarc", "resiliparse"}}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("minhash", [None, {}], ids=["exact", "minhash"])
def test_a_source_names_the_libraries_that_its_tasks_use(reader: str, minhash: dict[str, Any] | None) -> None:
    config = config_for(source("web", reader={"type": reader, "paths": ["/data"]}), dedup={"minhash": minhash})
    found = source_versions(config, plans_of(config)[0])
    assert set(found) >= ALWAYS | READERS[reader]
    assert not set(found) & set[str]().union(*READERS.values()) - READERS[reader]
    assert (found["numpy"], found["python"]) == (version("numpy"), platform.python_version())
    assert "code" not in found
