import errno
import os
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import zstandard

from data_prep.built import Built, BuiltSource
from data_prep.corpus.losses import link
from data_prep.corpus.output import CorpusFolder
from data_prep.corpus.tidy import is_tidy, tidy
from data_prep.dedup.exact import Kept
from data_prep.dedup.near import NearDuplicates
from data_prep.documents.source import SourceDocuments
from data_prep.pairs import Pair
from data_prep.plan import SourcePlan
from data_prep.tasks.store import Done, complete, find_done, task_folder
from data_prep.tasks.task import Task
from pipeline.config.prep.recipe import Source
from pipeline.corpus.manifest import Manifest, ShardEntry, Split, TokenizerEntry, read_manifest
from pipeline.errors import ConfigError
from tests.unit.data_prep.write_task import files
from tests.unit.killing import killed_at

PARTS = {"train": [Pair("a.py", "def f():", "F.")], "validation": [Pair("b.py", "def g():", "G.")]}


@dataclass(frozen=True)
class FilesTask(Task):
    """A task of whatever phase that leaves some files."""

    phase: ClassVar[str] = "files"
    result_type: ClassVar[Any] = Any

    label: str
    files: Mapping[str, bytes] = field(compare=False)
    result: Any = field(default=None, compare=False)

    def run(self, work: Path, folder: Path) -> Any:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return self.result


def made(work: Path, label: str, contents: Mapping[str, bytes], result: Any = None) -> Done:
    task = FilesTask(label, contents)
    complete(work, task, task_folder(task))
    done = find_done(work, task, task_folder(task))
    assert done is not None
    return Done(done.folder, done.outputs, result)


def shard_names(split: str, source: str, number: int) -> tuple[str, str]:
    name = f"{split}/{source}/{source}-{number:06d}"
    return f"{name}.tar", f"index/{name}.idx.npy"


def built_source(work: Path, name: str, salt: str, num_shards: int) -> BuiltSource:
    """A source with shards in two splits, one of them empty, bad records and dropped documents in the first task."""
    config = Source.model_validate({"name": name, "reader": {"type": "stdlib"}})
    shards = [
        made(
            work,
            f"{name}{number}{salt}",
            {path: f"{path} {salt}".encode() for path in shard_names("shards", name, number)},
        )
        for number in range(num_shards)
    ]
    held_out = made(work, f"{name} held out{salt}", dict.fromkeys(shard_names("validation", name, 0), salt.encode()))
    lost = {"rejects.jsonl": f"{name} {salt}\n".encode(), "dropped.jsonl.zst": zstandard.compress(name.encode())}
    reads = [made(work, f"{name} read {number}{salt}", lost if number != 1 else {}) for number in range(num_shards + 1)]
    documents = SourceDocuments(name, "", "", (), 0, (), ())
    splits: dict[Any, list[Done]] = {"train": shards, "validation": [held_out, made(work, f"{name} empty", {})]}
    return BuiltSource(SourcePlan(config, ()), reads, Kept(), documents, splits, [Done("", (), PARTS)])


def built(work: Path, names: Sequence[str], salt: str = "", num_shards: int = 2) -> Built:
    tokenizer = made(work, f"tokenizer{salt}", {"tokenizer/tokenizer.model": b"pieces " + salt.encode()})
    sources = [built_source(work, name, salt, num_shards if name == names[-1] else 2) for name in names]
    return Built(sources, tokenizer, NearDuplicates())


def entries_of(built: Built, split: Split) -> dict[str, list[ShardEntry]]:
    return {
        one.plan.source.name: [
            ShardEntry(name=Path(output.name).name, bytes=1, sha256="s", tokens=1, documents=1, text_bytes=1, chunks=1)
            for done in one.shards.get(split, [])
            for output in done.outputs
            if output.name.endswith(".tar")
        ]
        for one in built.sources
    }


def manifest_of(built: Built, config: str = "", before: Manifest | None = None) -> Manifest:
    names = [one.plan.source.name for one in built.sources]
    return Manifest(
        format_version=2,
        dtype="uint16",
        tokenizer=TokenizerEntry(fingerprint="0", vocab_size=300, eos_id=2),
        config_sha256=config,
        versions={},
        train=entries_of(built, "train") | (before.train if before else {}),
        validation=entries_of(built, "validation") | (before.validation if before else {}),
        statistics={"sources": {name: {} for name in names}, "generations": [names]},
    )


FIGURES = {"prep.json": {"seconds": 1}, "stats.json": {"sources": {}}}


def create(folder: CorpusFolder, built: Built, config: str = "") -> Any:
    return folder.create(built, manifest_of(built, config), FIGURES, seed=0)


def append(folder: CorpusFolder, built: Built, before: Manifest, config: str = "") -> Any:
    figures = {**FIGURES, "stats.json": {"sources": {config: {}}}}
    return folder.append(built, manifest_of(built, config, before), figures, seed=0)


def expected_names(names: Sequence[str], num_shards: int = 2) -> set[str]:
    of_source = {
        path
        for name in names
        for split, count in (("shards", num_shards), ("validation", 1))
        for number in range(count)
        for path in shard_names(split, name, number)
    }
    losses = {f"dropped/{name}-{number:06d}.jsonl.zst" for name in names for number in (0, 2)}
    rejects = {f"rejects/{name}.jsonl" for name in names}
    pairs = {"pairs/train.jsonl", "pairs/validation.jsonl"}
    return of_source | losses | rejects | pairs | {"tokenizer/tokenizer.model", "manifest.json", *FIGURES}


def test_a_corpus_holds_what_the_tasks_left(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "deep" / "corpus"
    one = built(work, ("web", "code"))
    assert create(CorpusFolder(output, work), one) == {"train": 1, "validation": 1}
    found = files(output)
    assert set(found) == expected_names(("web", "code"))
    assert found["shards/web/web-000001.tar"] == b"shards/web/web-000001.tar "
    assert found["rejects/web.jsonl"] == b"web \nweb \n"
    assert zstandard.decompress(found["dropped/code-000002.jsonl.zst"]) == b"code"
    assert [path.name for path in output.parent.iterdir()] == ["corpus"]


def test_shards_take_no_second_room_where_they_can_be_linked(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "corpus"
    one = built(work, ("web",))
    create(CorpusFolder(output, work), one)
    name = "shards/web/web-000000.tar"
    assert (output / name).samefile(work / one.sources[0].shards["train"][0].folder / name)


def test_what_cannot_be_linked_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    one = built(work, ("web",))
    create(CorpusFolder(tmp_path / "linked", work), one)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    create(CorpusFolder(tmp_path / "copied", work), one)
    assert files(tmp_path / "copied") == files(tmp_path / "linked")
    shutil.rmtree(work)
    assert set(files(tmp_path / "copied")) == expected_names(("web",))


def test_a_copy_is_whole_though_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = random.Random(0).randbytes(3_000_001)
    (tmp_path / "from").write_bytes(content)
    (tmp_path / "to").mkdir()
    monkeypatch.delattr(os, "link")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError()), raising=False)
    link(tmp_path / "from", tmp_path / "to" / "file")
    assert files(tmp_path / "to") == {"file": content}


def test_another_corpus_there_is_replaced_as_a_whole(tmp_path: Path) -> None:
    work, folder = tmp_path / "work", CorpusFolder(tmp_path / "corpus", tmp_path / "work")
    create(folder, built(work, ("web", "code"), "old", num_shards=5))
    new = built(work, ("web",), "new")
    create(folder, new)
    create(CorpusFolder(tmp_path / "fresh", work), new)
    assert files(tmp_path / "corpus") == files(tmp_path / "fresh")
    assert {path.name for path in tmp_path.iterdir()} == {"work", "corpus", "fresh"}


def test_leftovers_of_killed_starts_go(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "corpus"
    for name in ("corpus.partial", "corpus.replaced"):
        (tmp_path / name / "shards" / "web").mkdir(parents=True)
        (tmp_path / name / "shards" / "web" / "web-000000.tar").write_text("half")
    create(CorpusFolder(output, work), built(work, ("web",)))
    assert set(files(output)) == expected_names(("web",))
    assert b"half" not in files(output).values()
    assert {path.name for path in tmp_path.iterdir()} == {"work", "corpus"}


def test_a_link_to_another_disk_is_followed(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "corpus"
    (tmp_path / "disk").mkdir()
    output.symlink_to(tmp_path / "disk")
    for salt in ("old", "new"):
        create(CorpusFolder(output, work), built(work, ("web",), salt))
        assert output.is_symlink()
        assert files(tmp_path / "disk")["shards/web/web-000000.tar"].endswith(salt.encode())
    assert {path.name for path in tmp_path.iterdir()} == {"work", "corpus", "disk"}


def test_an_output_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"output .* cannot be made: Not a directory; choose another folder"):
        create(CorpusFolder(tmp_path / "file" / "corpus", tmp_path / "work"), built(tmp_path / "work", ("web",)))


@pytest.mark.parametrize("replaces", [False, True])
def test_killed_at_any_moment_a_corpus_is_the_old_or_the_new_or_absent(tmp_path: Path, replaces: bool) -> None:
    work, output = tmp_path / "work", tmp_path / "corpus"
    folder, one, two = CorpusFolder(output, work), built(work, ("web",), "old"), built(work, ("web",), "new")
    create(CorpusFolder(tmp_path / "new", work), two, "new")
    create(CorpusFolder(tmp_path / "old", work), one, "old")
    new, old = files(tmp_path / "new"), files(tmp_path / "old")
    states = set()
    for moment in range(0, 10_000, 7):
        shutil.rmtree(output, ignore_errors=True)
        if replaces:
            create(folder, one, "old")
        was_killed = killed_at(moment, create, folder, two, "new")
        found = files(output)
        assert found in ({}, old, new)
        states.add("new" if found == new else "old" if found else "absent")
        create(folder, two, "new")
        assert files(output) == new
        if not was_killed:
            break
    assert states >= {"new", "old" if replaces else "absent"}
    assert {path.name for path in tmp_path.iterdir()} == {"work", "corpus", "new", "old"}


def test_what_is_appended_leaves_the_files_that_are_there(tmp_path: Path) -> None:
    work, output = tmp_path / "work", tmp_path / "corpus"
    folder, both = CorpusFolder(output, work), built(work, ("web", "code"))
    create(folder, built(work, ("web",)))
    before = {path: path.stat() for path in sorted(output.glob("*/web/*"))}
    append(folder, without_shards(both, "web"), read_manifest(output))
    assert set(files(output)) == expected_names(("web", "code"))
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in before] == [
        (stat.st_ino, stat.st_mtime_ns) for stat in before.values()
    ]
    create(CorpusFolder(tmp_path / "at once", work), both)
    at_once = files(tmp_path / "at once")
    assert {name for name, content in files(output).items() if content != at_once[name]} == {
        "manifest.json",
        "stats.json",
    }


def without_shards(built: Built, name: str) -> Built:
    """As it is built when the corpus has the shards of a source already."""
    sources = [
        BuiltSource(one.plan, one.reads, one.kept, one.documents, {}, one.pairs)
        if one.plan.source.name == name
        else one
        for one in built.sources
    ]
    return Built(sources, built.tokenizer, built.near)


def test_killed_at_any_moment_an_append_has_changed_nothing_or_everything(tmp_path: Path) -> None:
    """All that the manifest names is whole, and the next start ends where an unkilled one does, with another config or
    with that of the corpus as it was too."""
    work = tmp_path / "work"
    first = built(work, ("web",))
    tried = without_shards(built(work, ("web", "code"), "tried", num_shards=3), "web")
    wanted = without_shards(built(work, ("web", "code"), "wanted"), "web")
    create(CorpusFolder(tmp_path / "expected", work), first)
    before, manifest = files(tmp_path / "expected"), read_manifest(tmp_path / "expected")
    append(CorpusFolder(tmp_path / "expected", work), wanted, manifest, "wanted")
    expected = files(tmp_path / "expected")
    create(CorpusFolder(tmp_path / "done", work), first)
    append(CorpusFolder(tmp_path / "done", work), tried, manifest, "tried")
    done = files(tmp_path / "done")
    states = set()
    for moment in range(0, 10_000, 7):
        output = tmp_path / str(moment)
        folder = CorpusFolder(output, work)
        create(folder, first)
        was_killed = killed_at(moment, append, folder, tried, manifest, "tried")
        found = files(output)
        finished = found["manifest.json"] != before["manifest.json"]
        states.add((finished, is_tidy(output)))
        whole = before.keys() if not finished else done.keys() - {"stats.json", "pairs/train.jsonl"}
        assert all(found[name] == (done if finished else before)[name] for name in whole)
        if not was_killed:
            assert found == done
            break
        if not finished and moment % 2:
            append(folder, wanted, manifest, "wanted")
            assert files(output) == expected
        else:
            tidy(output)
            assert files(output) == (done if finished else before)
            assert is_tidy(output)
    assert states == {(False, True), (False, False), (True, False), (True, True)}
