"""Folders and URLs. Configs are written down, copied and sent to trackers, so a URL in one holds no secret."""

import re
from typing import Annotated

from pydantic import AfterValidator

_PORT = r"\d+(/|$)"
_USER = re.compile(rf"://[^/?@]*:(?!{_PORT})[^?]*@|https?://[^/?@]*@")
"""`key:secret@`, where a secret may hold `/`, and `token@` of the web; Azure's `container@account` is no secret."""
_VARIABLES = re.compile(r"(\$\w+|\$\{\w+\})")


def without_user(place: str) -> str:
    """A place as it is. Raises ValueError if it is a URL with a user's name, password or key."""
    if _USER.search(place):
        raise ValueError(
            "the URL holds a user name, key or password, and configs are written down; take it out and give it in the"
            " environment, for S3 as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return place


def without_secret(place: str) -> str:
    """A place as it is. Raises ValueError if it is a URL with a user's name, password or key, or a query of its own."""
    if "://" in place and "?" in place and not _VARIABLES.fullmatch(place.partition("?")[2]):
        raise ValueError("the query of a URL may be secret; put it into an environment variable: …?$NAME")
    return without_user(place)


Place = Annotated[str, AfterValidator(without_secret)]
"""A folder, or its URL."""
