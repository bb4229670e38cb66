import os
from pathlib import Path

import pytest

from data_prep.output import finished_corpus, partial_folder
from pipeline.corpus.manifest import Manifest, TokenizerEntry, write_manifest
from pipeline.errors import ConfigError, RunError


def finish(folder: Path, inputs: dict[str, str]) -> None:
    folder.mkdir()
    statistics = {"sources": {name: {"inputs_sha256": checksum} for name, checksum in inputs.items()}}
    write_manifest(
        folder,
        Manifest(
            format_version=1,
            dtype="uint16",
            tokenizer=TokenizerEntry(fingerprint="0", vocab_size=300, eos_id=2),
            config_sha256="mine",
            versions={},
            train={},
            validation={},
            statistics=statistics,
        ),
    )


def write_half(output: Path) -> None:
    with partial_folder(output) as folder:
        (folder / "shards").mkdir()
        (folder / "shards" / "half").write_text("half")
        (folder / "file").write_text("half")
        raise ZeroDivisionError


def test_what_is_written_appears_whole(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "corpus"
    with partial_folder(output) as folder:
        (folder / "file").write_text("content")
        assert not output.exists()
    assert [path.name for path in output.iterdir()] == ["file"]
    assert [path.name for path in output.parent.iterdir()] == ["corpus"]


def test_after_an_error_there_is_no_output_and_the_next_job_starts_clean(tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    with pytest.raises(ZeroDivisionError):
        write_half(output)
    assert not output.exists()
    with partial_folder(output) as folder:
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_link_left_over_is_removed_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")
    partial = tmp_path / "corpus.partial"
    partial.mkdir()
    os.symlink(precious, partial / "link")
    with partial_folder(tmp_path / "corpus"):
        pass
    assert (precious / "file").read_text() == "kept"


def test_two_jobs_do_not_write_one_folder(tmp_path: Path) -> None:
    output = tmp_path / "corpus"
    with partial_folder(output), pytest.raises(RunError, match=r"in use by .*pid"), partial_folder(output):
        pass


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sentence = r"output .* cannot be made: Not a directory"
    with pytest.raises(ConfigError, match=sentence), partial_folder(tmp_path / "file" / "corpus"):
        pass


def test_a_finished_corpus_is_known_by_config_and_inputs(tmp_path: Path) -> None:
    output, inputs = tmp_path / "corpus", {"web": "abc"}
    assert finished_corpus(output, "mine", inputs) is None
    finish(output, inputs)
    assert finished_corpus(output, "mine", inputs) is not None
    with pytest.raises(ConfigError, match=r"made by another config; remove it or choose another folder"):
        finished_corpus(output, "another", inputs)
    with pytest.raises(ConfigError, match=r"made from other input files; remove it or choose another folder"):
        finished_corpus(output, "mine", {"web": "abd"})


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    assert finished_corpus(tmp_path / "letters", "mine", {}) is None
    (tmp_path / "letters" / "love.txt").write_text("dear")
    for path in (tmp_path / "letters", tmp_path / "letters" / "love.txt"):
        with pytest.raises(ConfigError, match=r"is not a corpus; choose another folder"):
            finished_corpus(path, "mine", {})
