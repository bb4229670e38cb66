"""Trying again: what passes by itself is waited for, with pauses that grow and differ between processes."""

import errno
import random
import time
from collections.abc import Callable
from typing import TypeVar

from pipeline.corpus.remote.urls import shown
from pipeline.errors import CorpusError
from pipeline.runtime.logs import get_logger

_log = get_logger("corpus")
_PASSING_NUMBERS = {
    None, errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.ETIMEDOUT, errno.EPIPE,
}  # fmt: skip
"""Of an OSError; s3fs says EBUSY for 503 and EREMOTEIO for 500."""
_DAMAGED_CLASSES = {"DamagedBodyError", "FlexibleChecksumError", "ChecksumError", "IncompleteReadError"}
_PASSING_CLASSES = _DAMAGED_CLASSES | {"HTTPClientError", "ClientError", "TransportError"}
"""Errors of network packages that are no OSError, by name, as the packages need not be there; botocore's ClientError
has a status and is decided by that."""
_FATAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_RETRIED_STATUSES = (408, 425, 429)

Result = TypeVar("Result")


class DamagedBodyError(Exception):
    """What arrived is not what was promised."""


class Patience:
    """How often, and after which pauses, something is tried."""

    def __init__(
        self, attempts: int, first_seconds: float = 0.5, most_seconds: float = 30,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """Before attempt n + 1, wait for a random part of min(most, first · 2^(n - 1)) seconds."""
        self._attempts, self._first, self._most, self._sleep = attempts, first_seconds, most_seconds, sleep
        self._random = random.Random()  # of its own: the run's seed neither decides the pauses nor is moved by them
        self.num_retries = 0

    def result(self, what: str, attempt: Callable[[], Result]) -> Result:
        """The result of `attempt`, which is tried again as long as it fails with what may pass.

        Raises:
            CorpusError: It failed for good, or too often.
        """
        for number in range(1, self._attempts + 1):
            try:
                return self._told(what, attempt(), number)
            except Exception as error:
                if not may_pass(error) or number == self._attempts:
                    raise _failure(what, error, number) from None  # a traceback would show the query
                self._pause(what, error, number)
        raise AssertionError

    def _told(self, what: str, result: Result, number: int) -> Result:
        if number > 1:
            _log.warning("%s: arrived at attempt %d (%d retries so far)", shown(what), number, self.num_retries)
        return result

    def _pause(self, what: str, error: Exception, number: int) -> None:
        seconds = self._random.uniform(0, min(self._most, self._first * 2 ** (number - 1)))
        self.num_retries += 1
        _log.warning("%s: attempt %d of %d failed (%s); again in %.1f s",
                     shown(what), number, self._attempts, _said(error), seconds)  # fmt: skip
        self._sleep(seconds)


def may_pass(error: Exception) -> bool:
    """Whether an error is worth another attempt: an overloaded server, a lost connection, a damaged body."""
    status = _status(error)
    if status is not None:
        return status >= 500 or status in _RETRIED_STATUSES
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError) and not isinstance(error, _FATAL) and error.errno in _PASSING_NUMBERS:
        return True
    return _is_one_of(error, _PASSING_CLASSES)


def _is_one_of(error: Exception, names: set[str]) -> bool:
    return any(kind.__name__ in names for kind in type(error).__mro__)


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of aiohttp, gcsfs or botocore tells."""
    response = getattr(error, "response", None)
    told = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    if told is None:
        told = getattr(error, "status", None) or getattr(error, "code", None)
    return told if isinstance(told, int) and told >= 100 else None


def _failure(what: str, error: Exception, attempts: int) -> CorpusError:
    if isinstance(error, CorpusError):
        return error
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        cure = "free some space, or lower data.cache.max_bytes"
    elif _is_one_of(error, _DAMAGED_CLASSES):
        cure = "the object is damaged: copy it anew, or run `tarmac verify` on the corpus that it was copied from"
    else:
        cure = "check the address, the network and your credentials"
    times = f" after {attempts} attempts" if attempts > 1 else ""
    return CorpusError(f"{shown(what)} cannot be fetched{times} ({_said(error)}); {cure}")


def _said(error: Exception) -> str:
    return shown(str(error)) or type(error).__name__
