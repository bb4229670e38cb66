import gzip
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from data_prep.estimate import Amounts, estimate, guessed_bytes_per_token, print_plan
from data_prep.plan import SourcePlan, plan_sources
from data_prep.readers.files import InputFile
from data_prep.stage import prep
from pipeline.config.load import validate
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.manifest import SPLIT_FOLDERS, read_manifest


def config_for(folder: Path, sources: list[dict[str, Any]], **values: Any) -> PrepConfig:
    base = {
        "stage": "prep",
        "output": str(folder / "out"),
        "sources": sources,
        "tokenizer": {"type": "train", "vocab_size": 4000},
        "dedup": {"exact": False},
        "workers": 1,
    }
    return validate(PrepConfig, {**base, **values}, "test")


def estimated(config: PrepConfig) -> dict[str, Amounts]:
    return {plan.source.name: estimate(config, plan, lambda text: len(text) / 4) for plan in plan_sources(config)}


def pages(number: int, seed: int = 0) -> list[str]:
    """Texts of about a kilobyte."""
    source = random.Random(seed)
    return [" ".join(f"{source.getrandbits(20):x}" for _ in range(source.randint(50, 300))) for _ in range(number)]


def about(value: float, share: float = 0.1) -> Any:
    return pytest.approx(value, rel=share)


def test_compressed_files_that_are_read_in_part(tmp_path: Path) -> None:
    texts = pages(20_000)
    (tmp_path / "in").mkdir()
    for number in range(2):  # of different sizes, with a field that is no text
        part = texts[: 14_000 + 6_000 * number]
        lines = (json.dumps({"text": text, "other": text[::-1]}) + "\n" for text in part)
        (tmp_path / "in" / f"{number}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode(), 1))
    assert min(path.stat().st_size for path in (tmp_path / "in").iterdir()) > 8 << 20
    found = estimated(
        config_for(tmp_path, [{"name": "a", "reader": {"type": "jsonl", "paths": [str(tmp_path / "in")]}}])
    )
    size = sum(map(len, texts)) + sum(map(len, texts[:14_000]))
    assert found["a"].text_bytes == about(size)
    assert found["a"].kept_bytes == about(size)
    assert found["a"].tokens == about(size / 4)


def test_parquet_with_a_column_that_is_not_read(tmp_path: Path) -> None:
    texts, source = pages(6_000), random.Random(1)
    html = [source.randbytes(len(text) * 5) for text in texts]
    pq.write_table(pa.table({"text": texts, "html": html}), tmp_path / "a.parquet", row_group_size=1000)
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    found = estimated(config_for(tmp_path, [{"name": "a", "reader": {"type": "parquet", "paths": [str(tmp_path)]}}]))
    assert found["a"].text_bytes == about(2 * sum(map(len, texts)), 0.05)


def test_what_filters_drop_of_many_small_files_is_counted(tmp_path: Path) -> None:
    """Of 100 files in which half of the texts are too short 16 are looked at."""
    for number in range(100):
        lines = [json.dumps({"text": text}) for text in pages(20, number)]
        lines += [json.dumps({"text": "short"})] * 20 + ["no json"]
        (tmp_path / f"{number:02}.jsonl").write_text("\n".join(lines))
    found = estimated(config_for(tmp_path, [{"name": "a", "reader": {"type": "jsonl", "paths": [str(tmp_path)]}}]))
    sizes = sum(len(text) for number in range(100) for text in pages(20, number))
    assert found["a"].kept_bytes == about(sizes, 0.05)
    assert found["a"].text_bytes == about(sizes + 100 * 20 * len("short"), 0.05)


def test_what_a_file_begins_with_does_not_stand_for_all_of_it(tmp_path: Path) -> None:
    """A quarter of what is read of a file is kept, and it comes first."""
    texts = pages(1500)
    texts[375:] = ["{" + text for text in texts[375:]]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    source = {"name": "a", "reader": {"type": "jsonl", "paths": [str(tmp_path)]}}
    filters = [{"type": "c4_quality", "require_terminal_punctuation": False, "min_sentences": 0}]
    found = estimated(config_for(tmp_path, [source], filters=filters))
    assert found["a"].kept_bytes == about(sum(map(len, texts[:375])), 0.15)


def test_why_nothing_would_be_kept_is_told(tmp_path: Path) -> None:
    for name, line in (("short", '{"text": "x"}\n'), ("misspelt", '{"body": "x", "id": 1}\n')):
        (tmp_path / f"{name}.jsonl").write_text(line * 3)
    sources = [
        {"name": name, "reader": {"type": "jsonl", "paths": [str(tmp_path / f"{name}.jsonl")]}}
        for name in ("short", "misspelt")
    ]
    out = io.StringIO()
    print_plan(config_for(tmp_path, sources), Console(file=out))
    assert "warning: source 'short': no document of its sample is kept (cleaning:too_short 3)\n" in out.getvalue()
    assert "text is not there; there are body, id; correct" in out.getvalue()


def test_files_whose_size_is_not_known_count_alike(tmp_path: Path) -> None:
    files = []
    for number in range(32):
        (tmp_path / f"{number:02}.txt").write_text("text " * 100)
        files.append(InputFile(str(tmp_path / f"{number:02}.txt"), f"{number:02}.txt", 0, ""))
    config = config_for(tmp_path, [{"name": "a", "reader": {"type": "text", "paths": [str(tmp_path)]}}])
    found = estimate(config, SourcePlan(config.sources[0], tuple(files)), lambda text: 7)
    assert (found.text_bytes, found.tokens) == (32 * 500, 32 * 7)


def test_a_source_of_which_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short")
    (tmp_path / "b.txt").write_text("")
    found = estimated(config_for(tmp_path, [{"name": "a", "reader": {"type": "text", "paths": [str(tmp_path)]}}]))
    assert (found["a"].text_bytes, found["a"].kept_bytes, found["a"].tokens) == (5, 0, 0)


def test_larger_vocabularies_have_longer_tokens() -> None:
    guesses = [guessed_bytes_per_token(size) for size in (0, 300, 8_000, 32_768, 250_000)]
    assert guesses == sorted(guesses)
    assert guesses[0] >= 1
    assert math.isclose(guesses[3], 4.2)


def test_the_plan_says_what_it_rests_on(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("some text " * 100_000)
    out = io.StringIO()
    config = config_for(tmp_path, [{"name": "novel", "reader": {"type": "text", "paths": [str(tmp_path)]}}])
    print_plan(config, Console(file=out, width=200))
    row = next(line.split() for line in out.getvalue().splitlines() if "novel" in line)
    assert row[:6] == ["novel", "1", "1.0", "1", "1.0", "100%"]
    assert "a guess of 3.4 bytes per token; deduplication is not counted" in out.getvalue()


@pytest.mark.realdata
def test_tokens_are_expected_within_a_quarter(realdata: Path, tmp_path: Path) -> None:
    crawl, novels = realdata / "webcrawl", realdata / "british_fiction"
    table = pa.table({"text": texts_of(novels), "html": [bytes(range(256)) * 8] * len(texts_of(novels))})
    pq.write_table(table, tmp_path / "novels.parquet", compression="none", use_dictionary=False)
    readers: dict[str, dict[str, Any]] = {
        "novels": {"type": "text", "paths": [str(novels)]},
        "warc": {"type": "warc", "paths": [str(crawl / "dolma" / "warc__sample-0000.warc.gz")]},
        "warcio": {"type": "warc", "paths": [str(crawl / "warcio")]},
        "jsonl": {"type": "jsonl", "paths": [str(crawl / "c4"), str(crawl / "dolma")]},
        "wiki": {"type": "text", "paths": [str(crawl / "wiki")], "document": "paragraph"},
        "parquet": {"type": "parquet", "paths": [str(tmp_path / "novels.parquet")]},
    }
    sources = [{"name": name, "reader": reader, "max_rejected_share": 1.0} for name, reader in readers.items()]
    config = config_for(tmp_path, sources, tokenizer={"type": "train", "vocab_size": 16_000})
    manifest = read_manifest(prep(config, Console(file=io.StringIO())))
    per_token = guessed_bytes_per_token(16_000)
    for plan in plan_sources(config):
        name = plan.source.name
        true = sum(shard.tokens for split in SPLIT_FOLDERS for shard in manifest.sources(split).get(name, []))
        found = estimate(config, plan, lambda text: len(text.encode()) / per_token)
        assert found.kept_bytes == about(manifest.statistics["sources"][name]["text_bytes"], 0.05), name
        assert found.tokens == about(true, 0.25), name


def texts_of(folder: Path) -> list[str]:
    """The novels in pages of 3,000 characters."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(folder.glob("*.txt"))]
    return [text[start : start + 3000] for text in texts for start in range(0, len(text), 3000)]
