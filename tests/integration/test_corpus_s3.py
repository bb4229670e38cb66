"""A corpus in an object store, spoken to over the real protocol through a network that fails."""

import functools
import hashlib
import http.server
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from pipeline.cli import main
from pipeline.config.data import CorpusCache
from pipeline.corpus.corpus import Corpus, fetch_ahead, open_corpus
from pipeline.data.ahead import fetch_upcoming
from pipeline.data.corpora import Corpora
from pipeline.data.cuts import Cuts
from pipeline.data.loader import Loader, Share
from pipeline.data.order import Order
from pipeline.data.phases import Phase, Setting, SourceShare
from pipeline.errors import CorpusError
from pipeline.stages.verify import verify
from tests.integration.flawed_proxy import Flaw, FlawedProxy
from tests.unit.corpus.build import write_corpus

TOKENIZER = b"the tokenizer"
SECRET = "the-secret-of-someone"
SOURCES = {"web": [[range(number, number + 300)] for number in range(6)], "code": [[range(90)], [range(120)]]}
WHOLE = {name: [[*shard[0]] for shard in shards] for name, shards in SOURCES.items()}
READ = """
import json, sys
from pipeline.config.data import CorpusCache
from pipeline.corpus.corpus import open_corpus
url, settings = sys.argv[1], CorpusCache(**json.loads(sys.argv[2]))
corpus = open_corpus(url, settings)
print("open", flush=True)
sys.stdin.readline()
print(json.dumps({
    name: [corpus.open_shard("train", name, n).tokens(0, shard.tokens).tolist() for n, shard in enumerate(shards)]
    for name, shards in corpus.manifest.train.items()
}))
"""


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    write_corpus(folder, SOURCES, fingerprint=hashlib.sha256(TOKENIZER).hexdigest())
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.model").write_bytes(TOKENIZER)
    return folder


@pytest.fixture
def proxy(
    bucket: fsspec.AbstractFileSystem,
    endpoint: str,
    origin: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[FlawedProxy]:
    """The corpus at s3://crawl/corpus, behind a proxy."""
    bucket.put(f"{origin}/", "crawl/corpus/", recursive=True)
    proxy = FlawedProxy(endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield proxy
    proxy.close()


def cache_settings(tmp_path: Path, **values: object) -> CorpusCache:
    quick = {"first_pause_seconds": 0.01, "most_pause_seconds": 0.02, "timeout_seconds": 20.0}
    return CorpusCache.model_validate({"folder": str(tmp_path / "cache"), **quick, **values})


def read_all(corpus: Corpus) -> dict[str, list[list[int]]]:
    return {
        name: [corpus.open_shard("train", name, n).tokens(0, shard.tokens).tolist() for n, shard in enumerate(shards)]
        for name, shards in corpus.manifest.train.items()
    }


def fetched(tmp_path: Path) -> list[str]:
    """Shards that are there or on their way."""
    return sorted(path.name for path in (tmp_path / "cache").rglob("*.tar*"))


def test_a_corpus_is_read_from_the_object_store_once(proxy: FlawedProxy, tmp_path: Path) -> None:
    corpus = open_corpus("s3://crawl/corpus", cache_settings(tmp_path))
    assert fetched(tmp_path) == []
    assert read_all(corpus) == WHOLE
    again = open_corpus("s3://crawl/corpus", cache_settings(tmp_path, ahead=1))
    assert read_all(again) == WHOLE
    assert (again.tokenizer_folder / "tokenizer.model").read_bytes() == TOKENIZER
    assert again.folder.is_relative_to(tmp_path / "cache")
    tars = {path: count for path, count in proxy.gets.items() if path.endswith(".tar")}
    assert set(tars.values()) == {1}
    assert len(tars) == 8


def test_a_path_and_a_file_url_are_mapped_where_they_are(origin: Path) -> None:
    for place in (str(origin), f"file://{origin}"):
        assert open_corpus(place) == Corpus(origin)


@pytest.mark.parametrize("flaw", ["busy", "truncated", "flipped", "forged", "reset", "silent"])
def test_what_passes_is_tried_again_and_counted(
    proxy: FlawedProxy, tmp_path: Path, flaw: Flaw, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["manifest.json", "web-000002.tar", "code-000000.tar", "tokenizer.model"]
    proxy.flaws = {name: [flaw] * 2 for name in names}
    seconds = 0.5 if flaw == "silent" else 20.0
    with caplog.at_level(logging.DEBUG):
        corpus = open_corpus("s3://crawl/corpus", cache_settings(tmp_path, timeout_seconds=seconds))
        assert read_all(corpus) == WHOLE
    assert (corpus.tokenizer_folder / "tokenizer.model").read_bytes() == TOKENIZER
    told = [record.getMessage() for record in caplog.records if record.name.startswith("tarmac")]
    assert sum("of 8 failed" in line and "again in" in line for line in told) == 2 * len(proxy.flaws)
    assert any(f"arrived at attempt 3 ({2 * len(proxy.flaws)} retries so far)" in line for line in told)
    assert all(count == 3 for path, count in proxy.gets.items() if path.endswith(tuple(proxy.flaws)))
    assert SECRET not in caplog.text


@pytest.mark.parametrize(("flaw", "said"), [("truncated", "cannot be fetched"), ("forged", "other bytes arrived")])
def test_a_shard_that_never_comes_whole_is_named(proxy: FlawedProxy, tmp_path: Path, flaw: Flaw, said: str) -> None:
    corpus = open_corpus("s3://crawl/corpus", cache_settings(tmp_path, attempts=3))
    proxy.flaws = {"web-000001.tar": [flaw] * 9}
    message = r"^s3://crawl/corpus/shards/web/web-000001\.tar cannot be fetched after 3 attempts .*"
    with pytest.raises(CorpusError, match=message) as error:
        corpus.open_shard("train", "web", 1)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert fetched(tmp_path) == []


def test_what_does_not_pass_is_not_tried_again(
    proxy: FlawedProxy,
    bucket: fsspec.AbstractFileSystem,
    tmp_path: Path,
) -> None:
    corpus = open_corpus("s3://crawl/corpus", cache_settings(tmp_path))
    proxy.flaws = {"web-000001.tar": ["refused"]}
    bucket.rm("crawl/corpus/shards/web/web-000002.tar")
    for number in (1, 2):
        with pytest.raises(CorpusError, match=rf"web-00000{number}\.tar cannot be fetched \(.*credentials$"):
            corpus.open_shard("train", "web", number)
        assert_asked_once(proxy, f"/crawl/corpus/shards/web/web-00000{number}.tar")
    with pytest.raises(CorpusError, match=r"corpus s3://crawl/nothing has no manifest\.json; check the address"):
        open_corpus("s3://crawl/nothing", cache_settings(tmp_path))
    assert_asked_once(proxy, "/crawl/nothing/manifest.json")


def assert_asked_once(proxy: FlawedProxy, path: str) -> None:
    """By a GET, a HEAD, or a HEAD before a GET."""
    assert proxy.gets[path] <= 1
    assert proxy.others[path] <= 1
    assert proxy.gets[path] + proxy.others[path]


def start(settings: CorpusCache) -> "subprocess.Popen[str]":
    """A process that opens the corpus; it reads on once it is told to."""
    command = [sys.executable, "-c", READ, "s3://crawl/corpus", settings.model_dump_json()]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_processes_of_one_machine_share_one_copy(proxy: FlawedProxy, tmp_path: Path) -> None:
    processes = [start(cache_settings(tmp_path)) for _ in range(2)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "open\n"
    found = []
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        found.append(json.loads(process.communicate()[0]))
    assert found == [WHOLE, WHOLE]
    assert all(count == 1 for path, count in proxy.gets.items() if path.endswith((".tar", ".model")))


def test_a_process_that_is_killed_in_a_download_leaves_nothing_whole(proxy: FlawedProxy, tmp_path: Path) -> None:
    settings = cache_settings(tmp_path)
    proxy.flaws = {"web-000000.tar": ["silent"]}
    process = start(settings)
    process.stdin.write("\n")  # type: ignore[union-attr]
    process.stdin.flush()  # type: ignore[union-attr]
    assert proxy.half_sent.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = [name for name in fetched(tmp_path) if "web-000000" in name]
    assert left.endswith(".partial")
    assert read_all(open_corpus("s3://crawl/corpus", settings)) == WHOLE
    assert not [name for name in fetched(tmp_path) if name.endswith(".partial")]
    assert proxy.gets["/crawl/corpus/shards/web/web-000000.tar"] == 2


def test_a_process_that_is_killed_while_it_opens_leaves_no_corpus(proxy: FlawedProxy, tmp_path: Path) -> None:
    settings = cache_settings(tmp_path)
    proxy.flaws = {"tokenizer.model": ["silent"]}
    process = start(settings)
    assert proxy.half_sent.wait(60)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    corpus = open_corpus("s3://crawl/corpus", settings)
    assert (corpus.tokenizer_folder / "tokenizer.model").read_bytes() == TOKENIZER


def loader_of(corpus: Corpus) -> tuple[Corpora, Order, Loader]:
    corpora = Corpora({name: (corpus, name) for name in SOURCES}, "train")
    shares = tuple(
        SourceShare(name, "", len(shards), weight)
        for (name, shards), weight in zip(SOURCES.items(), (3 << 30, 1 << 30), strict=True)
    )
    order = Order(Cuts(corpora.shards, 1), 1, [Phase(0, 0, Setting(shares, 16, 4))])
    return corpora, order, Loader(corpora, order, Share(0, 1, 2), 0)


def tokens_of(batch: object) -> list[object]:
    return [micro.input_ids.tolist() for micro in batch.micro_batches]  # type: ignore[attr-defined]


def test_a_run_reads_the_same_batches_and_shards_come_before_they_are_needed(
    proxy: FlawedProxy, origin: Path, tmp_path: Path
) -> None:
    largest = max(path.stat().st_size for path in origin.rglob("*.tar"))
    settings = cache_settings(tmp_path, downloads=2, max_bytes=5 * largest)
    *_, here = loader_of(Corpus(origin))
    corpora, order, there = loader_of(open_corpus("s3://crawl/corpus", settings))
    for step in range(60):
        fetch_upcoming(corpora, order, step, 1)
        for name, shards in order.upcoming(step, 1).items():  # what a step needs is here or on its way
            corpora.shards[name].reader(shards[0])
        assert tokens_of(there.batch(step)) == tokens_of(here.batch(step))
        held = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.tar"))
        assert held <= 5 * largest
    assert 1 <= proxy.most_at_once <= 3  # two in the background and one that is needed


def test_prefetching_does_not_hold_up_what_is_there(proxy: FlawedProxy, tmp_path: Path) -> None:
    corpus = open_corpus("s3://crawl/corpus", cache_settings(tmp_path, downloads=1))
    proxy.flaws = {"web-000003.tar": ["silent"]}
    fetch_ahead([(corpus, "train", "web", 3), (corpus, "train", "web", 4)])
    assert proxy.half_sent.wait(60)
    assert corpus.open_shard("train", "web", 4).tokens(0, 2).tolist() == [4, 5]  # needed: not behind the other
    proxy.let_go.set()
    assert corpus.open_shard("train", "web", 3).tokens(0, 2).tolist() == [3, 4]


def test_verify_streams_every_file_and_names_what_is_bad(
    proxy: FlawedProxy, bucket: fsspec.AbstractFileSystem, origin: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    proxy.flaws = {"web-000001.tar": ["busy"], "web-000002.tar": ["forged"], "code-000000.tar": ["truncated"]}
    assert verify("s3://crawl/corpus") == 0  # what only the network did is read again
    good = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    verify(origin)
    here = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("│ shards")]
    assert good == [["│", "tokenizer", "│", "good", "│"], *here]
    bucket.rm("crawl/corpus/shards/web/web-000000.tar")
    bucket.pipe("crawl/corpus/shards/web/web-000001.tar", b"short")
    content = bytearray((origin / "shards/web/web-000002.tar").read_bytes())
    content[700] ^= 1
    bucket.pipe("crawl/corpus/shards/web/web-000002.tar", bytes(content))
    bucket.pipe("crawl/corpus/tokenizer/tokenizer.model", b"another")
    proxy.flaws = {"web-000003.tar": ["refused"] * 2}
    assert verify("s3://crawl/corpus") == 1
    bad = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│") and "good" not in line]
    for name, fault in zip(
        ("tokenizer", *(f"shards/web/web-00000{number}.tar" for number in range(4))),
        ("not the one that the tokens", "is missing", "has 5 bytes", "has other bytes than were", "cannot be fetched"),
        strict=True,
    ):
        assert any(line.split()[1] == name and fault in line for line in bad), name
    assert main(["verify", "s3://crawl/nothing"]) == 2
    assert "has no manifest.json; check the address" in capsys.readouterr().err
    assert not list((tmp_path).rglob("temporary/*"))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_query_is_sent_and_written_nowhere(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[str] = []

    class Handler(_Quiet):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(origin)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("SIGNATURE", f"sig={SECRET}")
    with caplog.at_level(logging.INFO):
        url = f"http://127.0.0.1:{server.server_port}/?$SIGNATURE"
        corpus = open_corpus(url, cache_settings(tmp_path))
        assert read_all(corpus) == WHOLE
        assert verify(url) == 0
        for path in origin.rglob("web-000000.tar"):
            path.unlink()
        for path in (tmp_path / "cache").rglob("web-000000*.tar"):
            path.unlink()
        with pytest.raises(CorpusError, match=r"web-000000\.tar cannot be fetched") as error:
            corpus.open_shard("train", "web", 0)
    server.shutdown()
    server.server_close()
    assert all(SECRET in path for path in asked if not path.endswith("/"))
    assert SECRET not in str(error.value) + caplog.text + "".join(capsys.readouterr())
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRET in str(path) or SECRET.encode() in path.read_bytes()]
    digest = hashlib.sha256((origin / "manifest.json").read_bytes()).hexdigest()
    assert corpus.folder.name == digest
