from pathlib import Path
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep.filters import personal_data
from pipeline.config.prep.filters import PersonalData

MASK = personal_data.build(PersonalData(type="personal_data", email="<E>", ip="<I>", phone="<P>"))

EMAILS = [
    ("ann@example.org", "<E>"),
    ("Write to <Ann.B+list_1@mail.example.co.uk>.", "Write to <<E>>."),
    ("mailto:ann@example.org?subject=x", "mailto:<E>?subject=x"),
    ("请联系foo@bar.com谢谢", "请联系<E>谢谢"),
    ("ann@example.org,bob@example.org", "<E>,<E>"),
    ("@dataclass", "@dataclass"),
    ("git@host:path", "git@host:path"),
    ("a @ b.org", "a @ b.org"),
    ("ann@example", "ann@example"),
    ("ann@-bad-.org", "ann@-bad-.org"),
    ("M@M.T is a product", "M@M.T is a product"),
    ("x" * 65 + "@example.org", "x" * 65 + "@example.org"),
]
ADDRESSES = [
    ("93.184.216.34", "<I>"),
    ("from 93.184.216.34.", "from <I>."),
    ("http://93.184.216.34:8080/x", "http://<I>:8080/x"),
    ("[93.184.216.34]:80, 93.184.216.0/24", "[<I>]:80, <I>/24"),
    ("93.184.216.34-93.184.216.40", "<I>-<I>"),
    ("地址93.184.216.34。", "地址<I>。"),
    ("host=93.184.216.34 <93.184.216.34>", "host=<I> <<I>>"),
    ("1.2.3.40", "<I>"),
    ("2001:4860:4860::8888", "<I>"),
    ("[2606:4700:10::6816:1234]:443", "[<I>]:443"),
    ("2a00:1450:4001:81b:0:0:0:200e.", "<I>."),
]
NUMBERS = [
    ("(212) 555-0123", "<P>"),
    ("Tel.: 212-555-0123.", "Tel.: <P>."),
    ("1-212-555-0123 or 212.555.0123", "<P> or <P>"),
    ("+1 (212) 555-0123, +1-212-555-0123, +12125550123", "<P>, <P>, <P>"),
    ("+44 (0)20 7946 0958 and +49 30/901820", "<P> and <P>"),
    ("+33 1 23 45 67 89", "<P>"),
    ("+8613800138000", "<P>"),
    ("电话+86 138 0013 8000。", "电话<P>。"),
]
STAYS = [
    "192.168.1.10 10.0.0.12 127.0.0.1 192.0.2.17 224.0.0.251",
    "1.2.3.4",
    "see 3.2.1.4 and 8.8.8.8",
    "93.184.216.340 293.184.216.34 93.184.216.034",
    "93.184.216.34.5 and 1.93.184.216.34",
    "v12.10.0.2 tool-12.10.0.2 12.10.0.2-rc1 12.10.0.2b1",
    "Browser/12.10.0.2",
    "tool==12.10.0.2 >= 12.10.0.2",
    "Version 12.10.0.2, Sections 12.10.0.2, version = 12.10.0.2",
    "2001:db8::1 fe80::1 ::1",
    "12:30:45 00:1a:2b:3c:4d:5e std::vector a::b",
    "2024:10:11 and 2001:4860:4860:8888",
    "2125550123",
    "020 7946 0958",
    "112-555-0123 212-155-0123",
    "212-555-01234 3212-555-0123 212-555-0123-7",
    "212.555-0123",
    "ISBN 978-0-306-40615-7",
    "2024-05-06 12:30:45",
    "x = a+1234567890",
    "+3.14159265358 +12345678 +100 +10011010010",
    "555-0100",
]


@pytest.mark.parametrize(("text", "masked"), EMAILS + ADDRESSES + NUMBERS)
def test_what_is_replaced(text: str, masked: str) -> None:
    assert MASK(text, {}) == masked


@pytest.mark.parametrize("text", STAYS)
def test_what_stays(text: str) -> None:
    assert MASK(text, {}) == text


def test_only_chosen_kinds_are_replaced() -> None:
    text = "ann@example.org 93.184.216.34 (212) 555-0123"
    one = personal_data.build(PersonalData(type="personal_data", kinds=("ip",)))
    assert one(text, {}) == "ann@example.org 192.0.2.1 (212) 555-0123"
    assert personal_data.build(PersonalData(type="personal_data", kinds=()))(text, {}) == text


def test_replacements_are_taken_literally() -> None:
    mask = personal_data.build(PersonalData(type="personal_data", email=r"\1 \g<0>"))
    assert mask("ann@example.org", {}) == r"\1 \g<0>"


PIECES = [text for text, _ in EMAILS + ADDRESSES + NUMBERS] + STAYS


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3)))
def test_masked_text_stays_as_it_is(pieces: list[str]) -> None:
    mask = personal_data.build(PersonalData(type="personal_data"))
    masked = mask(" | ".join(pieces), {})
    assert mask(str(masked), {}) == masked


HOSTILE = [
    "a" * 300_000,
    "a." * 150_000,
    "a@" * 150_000,
    "a@" + "b-" * 150_000,
    "a@" + "b." * 150_000,
    "1" * 300_000,
    "1." * 150_000,
    "+1" * 150_000,
    "+2" + " 1" * 150_000,
    "2001:" * 60_000,
    "(" * 300_000,
    "212-" * 75_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:8])
def test_no_text_takes_long(text: str) -> None:
    start = process_time()
    MASK(text, {})
    assert process_time() - start < 5  # an expression that goes back over the text would take minutes


@pytest.mark.realdata
def test_in_novels_only_their_publishers_address_is_replaced(realdata: Path) -> None:
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in realdata.glob("british_fiction/*.txt")]
    changed = [text for text in texts if MASK(text, {}) != text]
    assert len(texts) == 10
    assert all("gutenberg" in text.lower() for text in changed)
