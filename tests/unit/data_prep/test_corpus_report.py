import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.report import write_corpus_report
from data_prep.report.collect import CorpusReport, SourceFacts, collect
from data_prep.report.page import key_figures, page
from pipeline.cli import main
from pipeline.corpus.funnel import added, funnel
from pipeline.corpus.manifest import Manifest, TokenizerEntry, read_manifest
from pipeline.errors import CorpusError, RunError
from pipeline.runtime.bars import Bar, bars
from pipeline.runtime.page import render_page
from tests.unit.data_prep.corpus_story import HOSTILE, SOURCES, start_corpus, tell_corpus
from tests.unit.html_page import HtmlPage


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tell_corpus(tmp_path_factory.mktemp("story") / "demo")


@pytest.fixture(scope="module")
def shown(corpus: Path) -> HtmlPage:
    path = write_corpus_report(corpus)
    assert path == corpus / "report.html"
    return HtmlPage.read(path)


def test_the_page_is_whole_and_needs_no_network(shown: HtmlPage) -> None:
    assert shown.open == []
    assert shown.needs_no_network()
    assert "demo" in [text for tag, text in shown.texts if tag == "h1"]


def test_key_figures(corpus: Path) -> None:
    figures = dict(key_figures(collect(corpus)))
    disk = sum(path.stat().st_size for path in corpus.rglob("*.tar"))
    assert figures == {
        "documents": "62",
        "tokens": "248",
        "text": "2.48 kB",
        "bytes per token": "10.000",
        "shards": f"4, {disk / 1000:.3g} kB",
        "train tokens": "228",
        "validation tokens": "20",
        "vocabulary": "60,123",
        "records kept": "50.2%",  # 5,040 of 10,040
    }


def test_the_funnel_tells_what_each_step_took_and_left(shown: HtmlPage) -> None:
    first = shown.rows.index(["records", "–", "–", "10,000"])
    assert shown.rows[first + 1 : first + 8] == [
        ["skipped", "1,000", "10.0%", "9,000"],
        ["rejected", "42", "0.4%", "8,958"],
        ["url", "3", "<0.1%", "8,955"],
        ["gopher_quality", "2,500", "25.0%", "6,455"],
        ["exact duplicates", "958", "9.6%", "5,497"],
        ["near-duplicates", "497", "5.0%", "5,000"],
        ["kept", "–", "50.0%", "5,000"],
    ]
    assert ["gopher_quality: symbols", "500", "5.0%"] in shown.rows
    assert ["rejected: encoding", "12", "0.1%"] in shown.rows
    assert ["records", "–", "–", "10,040"] in shown.rows, "all sources together"
    assert ["kept", "–", "100.0%", "40"] in shown.rows, "a source that lost nothing"


def test_bars_fill_the_track_as_the_shares_say(corpus: Path) -> None:
    report = replace(collect(corpus), clusters={}, timing={})
    widths = [
        (attributes["class"], attributes["x"], attributes["width"])
        for tag, attributes in HtmlPage(render_page(page(report))).tags
        if tag == "rect" and "x" in attributes
    ]
    assert ("s0", "0.00%", "64.55%") in widths
    assert ("s1", "64.55%", "25.00%") in widths, "what Gopher's rules took lies right of what they left"
    assert ("s1", "89.55%", "0.40%") in widths, "three of ten thousand can still be seen"


@given(
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 50)),
    st.dictionaries(st.sampled_from(["a", "b"]), st.integers(1, 50)),
    st.dictionaries(st.sampled_from(["f:x", "f:y", "g:x:y", "h", "duplicate", "near_duplicate"]), st.integers(1, 50)),
    st.integers(0, 50),
)
def test_a_funnel_loses_no_record(
    skipped: dict[str, int], rejected: dict[str, int], dropped: dict[str, int], kept: int
) -> None:
    read = kept + sum(rejected.values()) + sum(dropped.values())
    figures = {"read": read, "skipped": skipped, "rejected": rejected, "dropped": dropped, "kept": kept}
    found = funnel(figures)
    assert found.records == kept + sum(step.lost for step in found.steps)
    assert [step.left for step in found.steps][-1:] in ([], [kept])
    assert len({step.name for step in found.steps}) == len(found.steps)
    twice = funnel(added([figures, figures]))
    assert [step.lost for step in twice.steps] == [2 * step.lost for step in found.steps]


def test_steps_are_in_the_order_in_which_they_run() -> None:
    dropped = dict.fromkeys(["near_duplicate", "a:x", "cleaning:y", "held_out:z", "duplicate", "b:x", "a_2:x"], 1)
    figures = {"read": 7, "kept": 0, "dropped": dropped, "steps": ["cleaning", "b", "a", "a_2"]}
    order = ["cleaning", "b", "a", "a_2", "held_out", "exact duplicates", "near-duplicates"]
    assert [step.name for step in funnel(figures).steps] == order
    assert [step.name for step in funnel(added([figures, figures])).steps] == order


def test_what_the_documents_are(shown: HtmlPage) -> None:
    for row in (
        ["1", "11", "25.0%"],
        ["1,024 – 2,047", "33", "75.0%"],
        ["en", "61", "110.9%"],  # the story counts more than the shards hold: shares are of these
        ["site19.org", "81", "147.3%"],
    ):
        assert row in shown.rows, row
    assert not [row for row in shown.rows if row[0] == "site20.org"]
    assert "more are in stats.json" in shown.text()


def test_clusters_of_near_duplicates_by_powers_of_two(shown: HtmlPage) -> None:
    first = shown.rows.index(["2", "120", "240"])
    assert shown.rows[first + 1 : first + 3] == [["3 – 4", "15", "46"], ["9 – 16", "7", "70"]]
    text = shown.text()
    assert "142" in text, "clusters"
    assert "356" in text, "documents in them"


def test_where_the_time_went(shown: HtmlPage) -> None:
    first = shown.rows.index(["shards", "1 min 30 s", "72.6%"])
    assert shown.rows[first + 1 : first + 3] == [["read", "30 s", "24.2%"], ["dedup", "4 s", "3.2%"]]
    for expected in ("2 min 4 s", "4.25", "39 of 41"):
        assert expected in shown.text(), expected


def test_splits_and_sources(corpus: Path, shown: HtmlPage) -> None:
    rows = {(row[0], row[1]): row[2:] for row in shown.rows if len(row) == 8}
    assert rows["web", "train"][:5] == ["50", "200", "2 kB", "10.000", "2"]
    assert rows["code", "train"][:5] == ["7", "28", "280 B", "10.000", "1"]
    assert rows["web", "validation"][:5] == ["5", "20", "200 B", "10.000", "1"]
    assert rows["all", "train"][:5] == ["57", "228", "2.28 kB", "10.000", "3"]
    assert ("code", "validation") not in rows
    assert rows["web", "validation"][5].endswith(" kB")


def test_versions_checksums_and_tokenizer(corpus: Path, shown: HtmlPage) -> None:
    manifest, text = read_manifest(corpus), shown.text()
    for digit in "123467":
        assert digit * 64 in text, digit
    assert ["web", "train shards", manifest.fingerprint("train", "web")] in shown.rows
    for expected in ("9.8.7", "uint16", "tokenizer.model", "shards encoded by gigatoken", "corpus format 2"):
        assert expected in text, expected
    values = [text for tag, text in shown.texts if tag == "dd"]
    names = [text for tag, text in shown.texts if tag == "dt"]
    facts = dict(zip(names, values, strict=True))
    assert facts["shards encoded by gigatoken"] == "3"
    assert facts["shards encoded again"] == "1"
    assert facts["id that ends a document"] == "2"


def test_other_versions_of_a_source_that_came_later(shown: HtmlPage) -> None:
    assert ["code", "numpy", "9.9.0"] in shown.rows
    assert ["code", "pyarrow", "77.1"] in shown.rows
    assert not [row for row in shown.rows if (row[0] == "web" and row[1:2] == ["numpy"]) or row[1:2] == ["tarmac"]]


def test_the_first_rejects(shown: HtmlPage) -> None:
    assert ["json", "30", "0.3%"] in shown.rows
    listed = [row for row in shown.rows if len(row) == 4 and row[1].startswith("c")]
    assert [row[2] for row in listed] == [str(70 + number) for number in range(10)]
    assert listed[0] == ["json", "c0.jsonl", "70", f"bad {HOSTILE}"]


def test_hostile_texts_stay_text(shown: HtmlPage) -> None:
    texts = [text for tag, text in shown.texts if tag == "pre"]
    assert texts[:4] == [f"Sample {number}. {HOSTILE}" for number in range(4)]
    assert f"Dropped {HOSTILE}" in texts
    assert f"a{HOSTILE}.warc, record 17" in [text for tag, text in shown.texts if tag == "figcaption"]
    assert [text for text in texts if text.startswith("xxx")] == ["x" * 600 + " …"]
    assert {tag for tag, _ in shown.tags}.isdisjoint({"img", "b"})
    assert not [text for tag, text in shown.texts if tag == "script" and "alert" in text]


def test_cells_of_bars_are_text() -> None:
    assert '<td class="number">&lt;i&gt;</td>' in bars("a", ("b", "<c>"), [Bar("d", ("<i>",), 0.5)])


def full_of(text: str) -> CorpusReport:
    """A report in which every text is `text`."""
    counts = {text: 3}
    figures = {
        "read": 9, "kept": 3, "skipped": counts, "rejected": counts, "dropped": {f"{text}:{text}": 3},
        "encoders": counts, "inputs_sha256": text, "config_sha256": text,
    }  # fmt: skip
    dropped = {"reason": text, "file": text, "position": 1, "text": text}
    content = {
        "documents_by_tokens": [{"from": 1, "below": 2, "documents": 3}],
        "languages": counts, "domains": counts, "samples": 3 * [text], "dropped_samples": [dropped],
    }  # fmt: skip
    manifest = Manifest(
        format_version=2, dtype="uint16", tokenizer=TokenizerEntry(fingerprint=text, vocab_size=3, eos_id=2),
        config_sha256=text, versions={text: text}, train={text: []}, validation={},
    )  # fmt: skip
    rejects = [{"reason": text, "file": text, "position": 1, "detail": text}]
    source = SourceFacts(text, {"train": []}, figures, content, rejects)
    return CorpusReport(text, manifest, [source], {2: 1}, {"seconds": {text: 1.0}}, [text])


SHAPE = [tag for tag, _ in HtmlPage(render_page(page(full_of("x")))).tags]


@given(st.text(min_size=1) | st.text(alphabet="<>\"'/!-&;=$ script", min_size=1))
def test_no_text_adds_an_element(text: str) -> None:
    found = HtmlPage(render_page(page(full_of(text))))
    assert found.open == []
    assert [tag for tag, _ in found.tags] == SHAPE
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]


def test_a_folder_with_a_hostile_name_and_half_a_character(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "<script>x"
    shutil.copytree(corpus, folder)
    (folder / "stats.json").write_text('{"sources": {"web": {"samples": ["half \\ud800"]}}}')
    found = HtmlPage.read(write_corpus_report(folder))
    assert "<script>x" in [text for tag, text in found.texts if tag == "h1"]
    assert "half ?" in found.text()


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    start_corpus(tmp_path / "bare", {})
    found = HtmlPage.read(write_corpus_report(tmp_path / "bare", tmp_path / "elsewhere.html"))
    assert found.open == []
    for sentence in (
        "The manifest does not say what was read.",
        "No lengths were counted.",
        "No filter looked for languages.",
        "No document has an address.",
        "No near-duplicates were found, or none looked for.",
        "prep.json, which says how long it took, is not in the folder.",
        "No record was bad.",
        "No text is at hand.",
        "No text that a filter dropped is at hand.",
        "not in the folder",
    ):
        assert sentence in found.text(), sentence
    assert not (tmp_path / "bare" / "report.html").exists()


@pytest.mark.parametrize("content", ["", "[1]", "{", "\xff"])
def test_damaged_figures_are_as_good_as_none(corpus: Path, tmp_path: Path, content: str) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(corpus, folder)
    for name in ("stats.json", "prep.json", "rejects/web.jsonl"):
        (folder / name).write_text(content, encoding="latin-1")
    found = HtmlPage.read(write_corpus_report(folder))
    assert "No lengths were counted." in found.text()
    assert ["kept", "–", "50.0%", "5,000"] in found.rows


def test_a_corpus_of_the_first_format_is_shown(tmp_path: Path) -> None:
    """Its figures knew neither rejected nor skipped records, and reasons had no filter before them."""
    figures = {"files": 1, "inputs_sha256": "a", "read": 10, "kept": 6, "dropped": {"short": 3, "duplicate": 1}}
    manifest = start_corpus(tmp_path, {"sources": {"web": figures}})
    (tmp_path / "manifest.json").write_text(
        json.dumps({**manifest.model_dump(mode="json", exclude={"test"}), "format_version": 1})
    )
    rows = HtmlPage.read(write_corpus_report(tmp_path)).rows
    first = rows.index(["short", "3", "30.0%", "7"])
    assert rows[first + 1 : first + 3] == [["exact duplicates", "1", "10.0%", "6"], ["kept", "–", "60.0%", "6"]]


def test_the_command_line_tells_a_corpus_from_a_run(corpus: Path, tmp_path: Path, capsys) -> None:
    assert main(["report", str(corpus), "--output", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    assert "Tarmac corpus report" in HtmlPage.read(tmp_path / "page.html").text()
    assert main(["report", str(tmp_path)]) == 2
    assert "has no config.yaml" in capsys.readouterr().err


def test_a_folder_that_is_no_corpus_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"has no manifest\.json; prepare it with `tarmac prep`"):
        write_corpus_report(tmp_path)


def test_a_place_that_cannot_be_written_is_one_sentence(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot be written \(No such file or directory\); choose another --output"):
        write_corpus_report(corpus, tmp_path / "absent" / "report.html")


def test_the_story_is_like_the_figures_of_a_corpus() -> None:
    """What the tests above take for a source's figures adds up."""
    for figures in SOURCES.values():
        assert funnel(figures).steps[-1:] == [] or funnel(figures).steps[-1].left == figures["kept"]
