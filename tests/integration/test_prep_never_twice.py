"""What is finished is not done again, and a kill at any moment changes no byte."""

import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from data_prep.stage import prep
from pipeline.cli import main
from pipeline.config.load import dump
from pipeline.config.prep.recipe import PrepConfig
from pipeline.corpus.corpus import Corpus
from pipeline.corpus.verification import shard_fault, shard_files
from pipeline.errors import ConfigError, CorpusError, TokenizerError
from tests.integration.test_prep import config_for, contents, inputs, prose, run, texts

__all__ = ["inputs"]


def tasks_run(corpus: Corpus) -> dict[str, int]:
    """How many tasks of each phase had to run."""
    ran: dict[str, int] = json.loads((corpus.folder / "prep.json").read_text())["tasks_run"]
    return ran


def replaced(config: PrepConfig) -> Corpus:
    return Corpus(prep(config, Console(file=io.StringIO()), replace=True))


def test_a_finished_corpus_is_left_as_it_is(inputs: Path, tmp_path: Path) -> None:
    config = config_for(inputs, tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in run(config).folder.rglob("*")}
    said = io.StringIO()
    prep(config, Console(file=said, width=200))
    assert "is already prepared by this config" in said.getvalue()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == times
    with pytest.raises(ConfigError, match=r"made by another config; give --replace"):
        prep(config_for(inputs, tmp_path / "out", seed=5), Console(file=said))
    (inputs / "code" / "new.py").write_text(prose(1))
    with pytest.raises(ConfigError, match=r"from other input files of source code; give --replace"):
        prep(config, Console(file=said))


def test_a_job_that_failed_goes_on_where_it_was(inputs: Path, tmp_path: Path) -> None:
    failed = tmp_path / "failed"
    with pytest.raises(TokenizerError):
        run(config_for(inputs, failed, tokenizer={"type": "train", "vocab_size": 60_000}))
    assert not failed.exists()
    again = run(config_for(inputs, failed))
    ran = tasks_run(again)
    assert ran["read"] == ran["dedup"] == 0 < ran["tokenizer"]
    assert contents(again) == contents(run(config_for(inputs, tmp_path / "whole")))


def kill_after(words: list[str], seconds: float, alone: bool) -> bool:
    """Start a command and kill it after a while, alone or with its workers; whether it was still running."""
    job = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        job.wait(seconds)
    except subprocess.TimeoutExpired:
        (os.kill if alone else os.killpg)(job.pid, signal.SIGKILL)
        job.wait()
        return True
    return False


def num_finished(work: Path) -> Counter[str]:
    """How many tasks of each phase are finished in a work folder."""
    return Counter(path.parents[1].name for path in work.glob("*/*/task.json"))


def test_killed_at_twenty_random_moments(inputs: Path, tmp_path: Path) -> None:
    whole = contents(run(config_for(inputs, tmp_path / "whole", workers=2)))
    config = config_for(inputs, tmp_path / "killed", workers=2)
    (tmp_path / "prep.yaml").write_text(dump(config))
    words = [sys.executable, "-m", "pipeline.cli", "prep", str(tmp_path / "prep.yaml")]
    start = time.monotonic()
    subprocess.run([*words, f"output={tmp_path / 'timed'}"], check=True, capture_output=True)
    seconds, kills, moments = time.monotonic() - start, 0, random.Random(1)
    while kills < 20 or not num_finished(tmp_path / "killed.work"):
        kills += kill_after(words, moments.uniform(0.2, seconds), alone=kills % 2 == 0)
        if (tmp_path / "killed").exists():
            assert contents(Corpus(tmp_path / "killed")) == whole
            shutil.rmtree(tmp_path / "killed")
            shutil.rmtree(tmp_path / "killed.work")
    before = num_finished(tmp_path / "killed.work")
    corpus = run(config)
    assert contents(corpus) == whole
    assert not list(tmp_path.glob("killed.*/*/*.partial"))
    num_tasks: dict[str, int] = json.loads((corpus.folder / "prep.json").read_text())["tasks"]
    for phase, num_ran in tasks_run(corpus).items():
        assert num_ran <= num_tasks[phase] - before[phase]


def test_only_what_depends_on_a_change_is_done_again(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_prep.plan.TASK_BYTES", 4000)
    values: dict[str, Any] = {"keep_work": "everything"}
    first = tasks_run(run(config_for(inputs, tmp_path / "out", **values)))
    assert first["read"] > 3

    values["shards"] = {"chunk_tokens": 128, "shard_tokens": 1024}
    chunks = replaced(config_for(inputs, tmp_path / "out", **values))
    assert tasks_run(chunks) == {**dict.fromkeys(first, 0), "shards": first["shards"]}
    assert contents(chunks) == contents(run(config_for(inputs, tmp_path / "fresh", **values)))

    (inputs / "web" / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps({"body": prose(1000)}).encode()))
    changed = replaced(config_for(inputs, tmp_path / "out", **values))
    assert tasks_run(changed)["read"] == 1
    assert contents(changed) == contents(run(config_for(inputs, tmp_path / "fresh2", **values)))


def test_texts_that_were_deleted_are_read_again_when_a_change_needs_them(inputs: Path, tmp_path: Path) -> None:
    run(config_for(inputs, tmp_path / "out"))
    assert not list((tmp_path / "out.work").glob("read/*/documents"))
    values = {"shards": {"chunk_tokens": 128, "shard_tokens": 1024}}
    corpus = replaced(config_for(inputs, tmp_path / "out", **values))
    assert tasks_run(corpus)["read"] == 2
    assert contents(corpus) == contents(run(config_for(inputs, tmp_path / "fresh", **values)))


def change_unnoticed(path: Path) -> str:
    """Change a file's bytes and nothing else, and return its new text."""
    times, text = path.stat(), path.read_text()[:-2] + "#\n"
    path.write_text(text)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return text


def test_texts_that_are_read_again_have_to_be_those_of_before(inputs: Path, tmp_path: Path) -> None:
    run(config_for(inputs, tmp_path / "out"))
    text = change_unnoticed(inputs / "code" / "file0.py")
    config = config_for(inputs, tmp_path / "out", shards={"chunk_tokens": 128, "shard_tokens": 1024})
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"1 input changed since the first reading.*file0\.py.*--rehash"):
            replaced(config)
    found = Corpus(prep(config, Console(file=io.StringIO()), replace=True, rehash=True))
    assert text in {*texts(found, "train", "code").values(), *texts(found, "validation", "code").values()}
    assert contents(found) == contents(run(config_for(inputs, tmp_path / "new", shards=config.shards.model_dump())))


def test_a_source_is_appended_and_nothing_else_touched(inputs: Path, tmp_path: Path) -> None:
    both = config_for(inputs, tmp_path / "out", pairs={"enabled": False})
    web_first = both.model_copy(update={"sources": both.sources[::-1]})
    only_web = both.model_copy(update={"sources": both.sources[1:]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.corpus.manifest.version", lambda name: "0.0.older")
        before = run(only_web)
    files = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in before.folder.rglob("*.tar")}
    appended = run(web_first)
    assert files == {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}
    assert appended.manifest.train["web"] == before.manifest.train["web"]
    assert appended.manifest.tokenizer == before.manifest.tokenizer
    assert sorted(appended.manifest.train) == ["code", "web"]
    sources = appended.manifest.statistics["sources"]
    made_by = [one["tarmac"] for one in (appended.manifest.versions, sources["web"]["versions"])]
    assert made_by == ["0.0.older", "0.0.older"] != sources["code"]["versions"]["tarmac"]
    assert not [fault for file in shard_files(appended) if (fault := shard_fault(file.path, file.entry))]
    code = {*texts(appended, "train", "code").values(), *texts(appended, "validation", "code").values()}
    web = {*texts(appended, "train", "web").values(), *texts(appended, "validation", "web").values()}
    assert not code & web
    assert json.loads((appended.folder / "stats.json").read_text())["sources"].keys() == {"code", "web"}
    with pytest.raises(ConfigError, match=r"of the sources web, code, in this order; give --replace"):
        run(both)


def test_nothing_is_appended_to_what_was_made_from_bytes_that_are_gone(inputs: Path, tmp_path: Path) -> None:
    both = config_for(inputs, tmp_path / "out", keep_work="nothing")
    before = contents(run(both.model_copy(update={"sources": both.sources[:1]})))
    change_unnoticed(inputs / "code" / "file0.py")
    with pytest.raises(CorpusError, match=r"inputs of code have other bytes than .*--rehash and --replace"):
        run(both)
    assert contents(Corpus(tmp_path / "out")) == before
    found = Corpus(prep(both, Console(file=io.StringIO()), replace=True, rehash=True))
    assert sorted(found.manifest.train) == ["code", "web"]


def test_touched_inputs_are_read_again_and_nothing_else(inputs: Path, tmp_path: Path) -> None:
    config = config_for(inputs, tmp_path / "out", keep_work="everything")
    first = contents(run(config))
    for path in (inputs / "web").iterdir():
        path.touch()
    corpus = replaced(config)
    assert contents(corpus) == first
    assert tasks_run(corpus) == {**dict.fromkeys(tasks_run(corpus), 0), "read": 1}


def test_bytes_that_changed_unnoticed_are_found_by_rehash(inputs: Path, tmp_path: Path) -> None:
    config = config_for(inputs, tmp_path / "out", keep_work="everything")
    run(config)
    text = change_unnoticed(inputs / "code" / "file0.py")
    quiet = Console(file=io.StringIO())
    prep(config, quiet)
    with pytest.raises(CorpusError, match=r"1 input with other bytes .*file0\.py.*--replace"):
        prep(config, quiet, rehash=True)
    prep(config, quiet, rehash=True, replace=True)
    found = Corpus(tmp_path / "out")
    both = {*texts(found, "train", "code").values(), *texts(found, "validation", "code").values()}
    assert text in both


@pytest.mark.parametrize("keep_work", ["hashes", "nothing"])
def test_without_records_inputs_are_compared_with_what_the_manifest_says(
    inputs: Path, tmp_path: Path, keep_work: str
) -> None:
    """After an upgrade there are other tasks than those that have records, here by another size of tasks."""
    config = config_for(inputs, tmp_path / "out", keep_work=keep_work)
    run(config)
    said, quiet = io.StringIO(), Console(file=io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_prep.plan.TASK_BYTES", 4000)
        prep(config, Console(file=said), rehash=True)
        assert "no input has changed" in said.getvalue()
        text = change_unnoticed(inputs / "code" / "file0.py")
        prep(config, quiet)
        with pytest.raises(CorpusError, match=r"1 input with other bytes .*one of source code.*--replace"):
            prep(config, quiet, rehash=True)
        found = Corpus(prep(config, quiet, rehash=True, replace=True))
    assert text in {*texts(found, "train", "code").values(), *texts(found, "validation", "code").values()}
    assert not list(tmp_path.glob("out.work/rehash"))


def test_a_changed_evaluation_file_or_tokenizer_is_noticed(inputs: Path, tmp_path: Path) -> None:
    evaluation = tmp_path / "evaluation.txt"
    evaluation.write_text("nothing that is anywhere in the corpus, but long enough to be looked for in it")
    filters = [{"type": "decontaminate", "paths": [str(evaluation)]}]
    corpus = run(config_for(inputs, tmp_path / "out", filters=filters))
    evaluation.write_text(prose(5))
    with pytest.raises(ConfigError, match=r"from other input files of source code"):
        run(config_for(inputs, tmp_path / "out", filters=filters))
    dropped = replaced(config_for(inputs, tmp_path / "out", filters=filters)).manifest.statistics["sources"]["web"]
    assert dropped["dropped"]["decontaminate:contaminated"] > 0

    given = tmp_path / "tokenizer"
    shutil.copytree(corpus.tokenizer_folder, given)
    values = {"tokenizer": {"type": "given", "path": str(given)}}
    run(config_for(inputs, tmp_path / "given", **values))
    other = run(config_for(inputs, tmp_path / "other", tokenizer={"type": "train", "vocab_size": 330}))
    shutil.copytree(other.tokenizer_folder, given, dirs_exist_ok=True)
    with pytest.raises(ConfigError, match=r"with another tokenizer; give --replace"):
        run(config_for(inputs, tmp_path / "given", **values))


def test_nothing_is_appended_beside_a_damaged_tokenizer(inputs: Path, tmp_path: Path) -> None:
    both = config_for(inputs, tmp_path / "out")
    before = run(both.model_copy(update={"sources": both.sources[1:]}))
    model = before.tokenizer_folder / "tokenizer.model"
    content = model.read_bytes().replace(b"the", b"thq")
    model.unlink()
    model.write_bytes(content)
    with pytest.raises(CorpusError, match=r"another one than the tokens were made with; mend it .*--repair"):
        run(both.model_copy(update={"sources": both.sources[::-1]}))


def task_folders(work: Path, phase: str) -> set[str]:
    return {path.parent.name for path in work.glob(f"{phase}/*/task.json")}


def test_tasks_of_a_corpus_that_was_replaced_go_unless_everything_is_kept(inputs: Path, tmp_path: Path) -> None:
    shards = {"shards": {"chunk_tokens": 128, "shard_tokens": 1024}}
    for keep_work in ("hashes", "everything"):
        out, work = tmp_path / keep_work, tmp_path / f"{keep_work}.work"
        run(config_for(inputs, out, keep_work=keep_work))
        first = {phase: task_folders(work, phase) for phase in ("read", "dedup", "tokenizer", "shards")}
        corpus = replaced(config_for(inputs, out, keep_work=keep_work, **shards))
        second = {phase: task_folders(work, phase) for phase in first}
        assert {phase for phase in first if first[phase] <= second[phase]} >= {"read", "dedup", "tokenizer"}
        assert (first["shards"] & second["shards"] == set()) == (keep_work == "hashes")
        assert (
            len(second["shards"] - first["shards"])
            == json.loads((corpus.folder / "prep.json").read_bytes())["tasks"]["shards"]
        )


def test_after_an_append_the_tasks_of_earlier_shards_stay(inputs: Path, tmp_path: Path) -> None:
    both = config_for(inputs, tmp_path / "out", pairs={"enabled": False})
    run(both.model_copy(update={"sources": both.sources[1:]}))
    before = task_folders(tmp_path / "out.work", "shards")
    run(both.model_copy(update={"sources": both.sources[::-1]}))
    assert before < task_folders(tmp_path / "out.work", "shards")


@pytest.mark.parametrize("keep_work", ["nothing", "hashes", "everything"])
@pytest.mark.parametrize("rehash", [False, True])
def test_what_a_kill_after_the_commit_left_to_do_is_done_by_the_same_command(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_work: str, rehash: bool
) -> None:
    config, out, work = (
        config_for(inputs, tmp_path / "out", keep_work=keep_work),
        tmp_path / "out",
        tmp_path / "out.work",
    )
    with monkeypatch.context() as patch:
        patch.setattr("data_prep.work.write_corpus_report", lambda folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(config)
    assert not (out / "report.html").exists()
    assert list(work.glob("read/*/documents"))
    prep(config, Console(file=io.StringIO()), rehash=rehash)
    assert (out / "report.html").exists()
    assert work.exists() == (keep_work != "nothing")
    assert bool(list(work.glob("read/*/documents"))) == (keep_work == "everything")
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    prep(config, Console(file=io.StringIO()))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == times


def test_nothing_kept_leaves_what_is_not_ours(inputs: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "thesis").mkdir(parents=True)
    (work / "thesis" / "draft.txt").write_text("mine")
    run(config_for(inputs, tmp_path / "out", work=str(work), keep_work="nothing"))
    assert [path.relative_to(work).as_posix() for path in work.rglob("*")] == ["thesis", "thesis/draft.txt"]
    run(config_for(inputs, tmp_path / "two", keep_work="nothing"))
    assert not (tmp_path / "two.work").exists()


def test_a_slash_behind_the_output_changes_nothing(inputs: Path, tmp_path: Path) -> None:
    config = config_for(inputs, tmp_path).model_copy(update={"output": f"{tmp_path / 'out'}/"})
    run(config)
    corpus = replaced(config.model_copy(update={"shards": config.shards.model_copy(update={"shard_tokens": 2048})}))
    assert tasks_run(corpus)["dedup"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs", "out", "out.work"]


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=str)
def test_no_corpus_goes_to_a_url(
    flags: list[str], inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_for(inputs, tmp_path).model_copy(update={"output": "s3://bucket/mine"})
    (tmp_path / "prep.yaml").write_text(dump(config))
    monkeypatch.chdir(tmp_path)
    assert main(["prep", str(tmp_path / "prep.yaml"), *flags]) == 2
    assert "output (s3://bucket/mine) must be a folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs", "prep.yaml"]


def test_dropped_documents_cannot_be_had_afterwards_and_it_is_told(inputs: Path, tmp_path: Path) -> None:
    config = config_for(inputs, tmp_path / "out")
    run(config)
    for write_dropped in (True, False):
        said = io.StringIO()
        prep(config.model_copy(update={"write_dropped": write_dropped}), Console(file=said, width=300))
        assert "is already prepared" in said.getvalue()
        assert ("write_dropped has come too late" in said.getvalue()) == write_dropped
    shutil.rmtree(tmp_path / "out")
    wanted = config.model_copy(update={"write_dropped": True})
    run(wanted)
    said = io.StringIO()
    prep(wanted, Console(file=said, width=300))
    assert "too late" not in said.getvalue()
