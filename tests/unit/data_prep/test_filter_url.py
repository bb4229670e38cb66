from pathlib import Path

import pytest

from data_prep.filters import url
from data_prep.filters.base import Dropped
from pipeline.config.prep.filters import UrlFilter
from pipeline.errors import ConfigError, CorpusError


@pytest.fixture
def config(tmp_path: Path) -> UrlFilter:
    (tmp_path / "domains").write_text("# bad ones\n\nlisted.org\nMÜLLER.example \n.dotted.net\nxn--bcher-kva.example\n")
    (tmp_path / "urls").write_text("http://news.site/bad/page/\nblog.site/post?id=7\n")
    return UrlFilter(
        type="url", domains=("spam.com", "co.example"), words=("Casino", "bad"),
        domain_files=(str(tmp_path / "domains"),), url_files=(str(tmp_path / "urls"),),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("https://spam.com/", "domain"),
        ("HTTP://A.b.Spam.COM:8080/x", "domain"),
        ("spam.com", "domain"),
        ("//user:word@www.spam.com?x#y", "domain"),
        ("https://ann@spam.com/", "domain"),
        ("https://spam.com./", "domain"),
        ("https://a.listed.org/x", "domain"),
        ("https://dotted.net/x", "domain"),
        ("https://xn--mller-kva.example/", "domain"),
        ("https://bücher.example/", "domain"),
        ("https://notspam.com/", None),
        ("https://spam.com.org/", None),
        ("https://example/", None),
        ("https://good.org/spam.com", None),
        ("https://good.org/?u=http://spam.com/", None),
        ("https://news.site/bad/page", "address"),
        ("http://news.site/bad/page/#top", "address"),
        ("blog.site/post?id=7", "address"),
        ("blog.site/post?id=8", None),
        ("https://good.org/Best-CASINO_games", "word"),
        ("https://bad.org/", "word"),
        ("https://badminton.org/", None),
        ("", None),
        ("http://[::1", None),
        ("https://" + "é" * 100 + ".org", None),
        ("https://a..b", None),
        ("a." * 200_000 + "spam.com", None),
    ],
)
def test_addresses(config: UrlFilter, address: str, reason: str | None) -> None:
    judged = url.build(config)("text", {"url": address})
    assert judged == (Dropped(reason) if reason else "text")


def test_a_document_without_url_passes(config: UrlFilter) -> None:
    assert url.build(config)("text", {}) == "text"


def test_empty_lists_drop_nothing() -> None:
    assert url.build(UrlFilter(type="url"))("text", {"url": "https://spam.com/"}) == "text"


def test_large_lists_hold_what_they_hold(tmp_path: Path) -> None:
    path = tmp_path / "domains"
    path.write_text("".join(f"site{number}.example\n" for number in range(0, 20_000, 2)))
    judge = url.build(UrlFilter(type="url", domain_files=(str(path),)))
    dropped = [judge("text", {"url": f"https://www.site{number}.example/"}) != "text" for number in range(1000)]
    assert dropped == [True, False] * 500


def test_a_missing_list_is_found_early(config: UrlFilter) -> None:
    url.check(config)
    missing = config.model_copy(update={"url_files": ("no/such/list",)})
    with pytest.raises(ConfigError, match=r"the list 'no/such/list' does not exist; correct domain_files or url_files"):
        url.check(missing)
    with pytest.raises(CorpusError, match="no/such/list"):
        url.build(missing)
