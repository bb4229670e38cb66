"""Addresses of remote files. A query may hold a signature: it is sent, and shown nowhere."""

import os
import re

from pipeline.errors import ConfigError

_QUERY = re.compile(r"([\w+.-]+://[^\s?'\"]*)\?[^\s'\"]*")
_USER = re.compile(r"([\w+.-]+://)[^\s/@'\"]*@")
_LOCAL = "file://"


def is_url(place: str) -> bool:
    """Whether it is on another machine."""
    return "://" in place and not place.startswith(_LOCAL)


def local_path(place: str) -> str:
    """A path, given as such or as a file URL."""
    return place.removeprefix(_LOCAL)


def filled_in(url: str) -> str:
    """A URL with environment variables in its query put in.

    Raises:
        ConfigError: One of them is not set.
    """
    address, mark, query = url.partition("?")
    query = os.path.expandvars(query)
    if "$" in query:
        raise ConfigError(f"corpus {shown(url)}: the environment variable of its query is not set; export it")
    return address + mark + query


def join(url: str, name: str) -> str:
    """The URL of a file below a URL; a query goes with it."""
    address, mark, query = url.partition("?")
    return f"{address.rstrip('/')}/{name}{mark}{query}"


def shown(text: str) -> str:
    """A text whose URLs have lost their queries and passwords, in one line."""
    return _USER.sub(r"\1", _QUERY.sub(r"\1", " ".join(text.split())))
