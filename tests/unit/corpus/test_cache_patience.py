import errno
import logging
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientPayloadError, ClientResponseError, RequestInfo, ServerDisconnectedError
from botocore.exceptions import ClientError, IncompleteReadError, NoCredentialsError, ReadTimeoutError
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from pipeline.config.data import CorpusCache, SourceWeight
from pipeline.corpus.corpus import open_corpus
from pipeline.corpus.remote.patience import DamagedBodyError, Patience, may_pass
from pipeline.corpus.remote.urls import filled_in, join, shown
from pipeline.errors import ConfigError, CorpusError

SIGNED = "https://somebody:password@host/corpus?X-Signature=secret&b=2"


def answered(status: int) -> ClientResponseError:
    info = RequestInfo(URL(SIGNED), "GET", CIMultiDictProxy(CIMultiDict()), URL(SIGNED))
    return ClientResponseError(info, (), status=status, message="said the server")


def s3_error(status: int) -> ClientError:
    return ClientError({"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")  # type: ignore[typeddict-item]


PASSING = [
    TimeoutError(), ConnectionResetError(), ServerDisconnectedError(), ClientPayloadError(), DamagedBodyError("x"),
    ReadTimeoutError(endpoint_url="x"), IncompleteReadError(actual_bytes=1, expected_bytes=2),
    OSError(errno.EBUSY, "503"), OSError(errno.EREMOTEIO, "500"), OSError("of s3fs, without a number"),
    *(answered(status) for status in (408, 429, 500, 503)), s3_error(503),
]  # fmt: skip
LASTING = [
    FileNotFoundError(), PermissionError(), IsADirectoryError(), OSError(errno.ENOSPC, "full"),
    OSError(errno.EINVAL, "400"), NoCredentialsError(), ValueError("a mistake of ours"), CorpusError("of ours"),
    *(answered(status) for status in (400, 401, 403, 404)), s3_error(403), s3_error(404),
]  # fmt: skip


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_lasts(error: Exception) -> None:
    assert not may_pass(error)


def test_pauses_grow_up_to_a_bound_and_differ() -> None:
    pauses: list[list[float]] = []
    for _ in range(200):
        pauses.append([])
        patience = Patience(8, first_seconds=1, most_seconds=16, sleep=pauses[-1].append)
        with pytest.raises(CorpusError, match="after 8 attempts"):
            patience.result("s3://a/b", lambda: failing(TimeoutError()))
        assert patience.num_retries == 7
    for number, (column, bound) in enumerate(zip(zip(*pauses, strict=True), (1, 2, 4, 8, 16, 16, 16), strict=True)):
        assert 0 <= min(column) < bound / 4, number
        assert bound * 3 / 4 < max(column) <= bound, number


def failing(error: Exception) -> None:
    raise error


def test_no_secret_is_told(caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience(3, sleep=lambda _: None)
    with caplog.at_level(logging.DEBUG), pytest.raises(CorpusError) as error:
        patience.result(SIGNED, lambda: failing(answered(503)))
    assert error.value.__suppress_context__
    for said in (str(error.value), caplog.text):
        assert "https://host/corpus" in said
        assert "secret" not in said
        assert "password" not in said


def test_queries_are_sent_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNATURE", "a=1&b=2")
    url = join(filled_in("https://host/corpus/?$SIGNATURE"), "shards/web/web-000000.tar")
    assert url == "https://host/corpus/shards/web/web-000000.tar?a=1&b=2"
    assert urlsplit(shown(url)).query == ""
    monkeypatch.delenv("SIGNATURE")
    with pytest.raises(ConfigError, match="environment variable of its query is not set"):
        open_corpus("https://host/corpus/?$SIGNATURE", CorpusCache())


def test_a_query_has_no_place_in_a_config() -> None:
    assert SourceWeight(corpus="https://host/corpus?$SIGNATURE", source="web").corpus.endswith("$SIGNATURE")
    with pytest.raises(ValueError, match="put it into an environment variable"):
        SourceWeight(corpus="https://host/corpus?sig=secret", source="web")


def test_a_protocol_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="corpus nothing://a/b cannot be opened"):
        open_corpus("nothing://a/b", CorpusCache())
