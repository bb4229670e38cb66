"""Replaces e-mail addresses, public IP addresses and telephone numbers; what looks like one but need not be, stays.

E-mail: `local@domain.tld`, all ASCII. Not: addresses without a top-level domain (`git@host`), quoted local parts,
`name at example dot org`.

IPv4: four numbers of at most 255 that are a public address (`ipaddress.is_global`; private, loopback, documentation
and multicast addresses stay). Versions and section numbers look alike, so these stay too: four numbers below 10
(`1.2.3.4`; the loss is known resolvers such as 8.8.8.8), a number with a leading zero, anything joined to letters or
to more numbers by `.`, `-` or a single `/` (`v12.1.0.2`, `tool-12.1.0.2`, `Browser/12.1.0.2`), and what follows `==`,
`version`, `release`, `section` and the like. IPv6: global unicast addresses (2000::/3) without an IPv4 tail.

Telephone: numbers with `+` and 8 to 15 digits (ITU-T E.164), 10 at least if they are not in groups; and North American
ones with an area code, `(212) 555-0123`, `212-555-0123`, `1.212.555.0123`. Not: numbers without `+` from elsewhere,
nor bare digits, which are mostly identifiers; nor what can be read as a decimal number.
"""

import ipaddress
import re
from collections.abc import Callable, MutableMapping

from data_prep.filters.base import Filter
from pipeline.config.prep.filters import PersonalData

Masker = Callable[[str], str]

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = re.compile(rf"(?<![\w.+%-])[\w.+%-]{{1,64}}@(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?![\w-])", re.ASCII)
_IPV4 = re.compile(r"(?:(?<![\w.\-/])|(?<=//)|(?<=\d-))\d{1,3}(?:\.\d{1,3}){3}(?!\.?\w|-[A-Za-z])", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])[23][0-9A-Fa-f]{3}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])", re.ASCII)
_BEFORE_VERSION = re.compile(
    r"(?:\b(?:version|release|revision|rev|ver|build|section|chapter|clause|figure|table|appendix)s?\s?[.:=]?"
    r"|[=<>~!]=|~>|§)\s*$",
    re.IGNORECASE,
)
_LOOK_BACK_CHARACTERS = 20

_GAP = r"[ .\-/()\u00a0\u2011]"
_AREA = r"(?:\([2-9]\d\d\)[ \u00a0]?[2-9]\d\d[ .\-]|[2-9]\d\d(?P<gap>[.\-])[2-9]\d\d(?P=gap))"
_NORTH_AMERICAN = re.compile(rf"(?<![\w.+\-/])(?:1[ .\-]?)?{_AREA}\d{{4}}(?![\w\-]|\.\d)", re.ASCII)
_INTERNATIONAL = re.compile(
    rf"(?<![\w+])\+(?:1{_GAP}{{0,2}}[2-9](?:{_GAP}{{0,2}}\d){{9}}|[2-9](?:{_GAP}{{0,2}}\d){{7,14}})(?!\d)", re.ASCII
)
_MIN_UNGROUPED_DIGITS = 10


def build(config: PersonalData) -> Filter:
    """Replaces the kinds of personal data that are chosen; it drops nothing."""
    maskers = [
        ("email", _masker("@", _EMAIL, config.email, _always)),
        ("ip", _masker(r"\d\.\d{1,3}\.\d", _IPV4, config.ip, _is_public)),
        ("ip", _masker(r":[0-9A-Fa-f]{0,4}:", _IPV6, config.ip, _is_public)),
        ("phone", _masker(r"\+\d", _INTERNATIONAL, config.phone, _is_grouped)),
        ("phone", _masker(r"\d[ .\-]\d{4}", _NORTH_AMERICAN, config.phone, _always)),
    ]

    def mask_all(text: str, metadata: MutableMapping[str, str]) -> str:
        for kind, mask in maskers:
            text = mask(text) if kind in config.kinds else text
        return text

    return mask_all


def _masker(hint: str, pattern: re.Pattern[str], replacement: str, is_meant: Callable[[re.Match[str]], bool]) -> Masker:
    """Replaces matches of a pattern that are what is meant, in texts with a hint, which is much quicker to look for."""
    has_hint = re.compile(hint, re.ASCII).search

    def choose(match: re.Match[str]) -> str:
        return replacement if is_meant(match) else match[0]

    return lambda text: pattern.sub(choose, text) if has_hint(text) else text


def _always(match: re.Match[str]) -> bool:
    return True


def _is_public(match: re.Match[str]) -> bool:
    """Whether a match is an address of the public internet, and no version."""
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return False
    if address.version == 4 and max(address.packed) < 10:
        return False
    before = match.string[max(0, match.start() - _LOOK_BACK_CHARACTERS) : match.start()]
    return address.is_global and not address.is_multicast and not _BEFORE_VERSION.search(before)


def _is_grouped(match: re.Match[str]) -> bool:
    """Whether an international number is in groups, or long enough; one full stop alone makes it a decimal number."""
    gaps = "".join(sign for sign in match[0][1:] if not sign.isdigit())
    return gaps != "." and (bool(gaps) or len(match[0]) > _MIN_UNGROUPED_DIGITS)
