"""Holes: stretches of a shard's stream that become padding, since documents were withdrawn or chunks are damaged.

The order of samples and the places of all other tokens stay what they are. A hole's positions read padding and predict
nothing, and nobody learns to predict what was in it, its first token included.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.corpus.reader import DocumentSpan
from pipeline.corpus.stretches import Places
from pipeline.data.batch import IGNORED, Rows
from pipeline.errors import ConfigError

_ID = re.compile(r"[0-9a-f]{32}")


def read_withdrawn(path: str | Path) -> tuple[str, frozenset[str]]:
    """The ids of a file, one a line, and their sha256, which does not depend on their order. Raises ConfigError."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"data.withdrawn ({path}) cannot be read: {reason}; give a file of document ids (a run keeps a copy in its"
            " folder, under withdrawn)"
        ) from error
    for line in lines:
        if not _ID.fullmatch(line):
            raise ConfigError(
                f"data.withdrawn ({path}): {line[:40]!r} is no document id; give 32 hexadecimal digits a line,"
                " as `tarmac explain` shows them"
            )
    ids = frozenset(lines)
    return hashlib.sha256(withdrawn_text(ids).encode()).hexdigest(), ids


def withdrawn_text(ids: Iterable[str]) -> str:
    """Ids as the text of a file."""
    return "".join(f"{one}\n" for one in sorted(ids))


def withdrawn_spans(documents: Iterable[DocumentSpan], ids: frozenset[str]) -> list[tuple[int, int]]:
    """Where the withdrawn ones of some documents lie."""
    return [(one.start, one.stop) for one in documents if one.record.id in ids]


def merged(spans: Iterable[tuple[int, int]]) -> tuple[Places, Places]:
    """Starts and stops of the holes that some spans make together, in order, none touching another."""
    found: list[list[int]] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], stop)
        else:
            found.append([start, stop])
    array = np.array(found, dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def touched(holes: tuple[Places, Places], starts: Places, stops: Places) -> Places:
    """Numbers of the pieces that read or predict something in a hole: position i reads token i and predicts i + 1."""
    first = np.searchsorted(holes[1], starts, side="right")  # the first hole that ends behind the piece's start
    begins = np.append(holes[0], np.iinfo(np.int64).max)
    return np.flatnonzero(begins[first] <= stops)


def punch(rows: Rows, target: int, start: int, stop: int, holes: tuple[Places, Places]) -> None:
    """Make holes in one piece that has been filled in from `target` on, counted through all rows."""
    inputs, labels = rows.inputs.reshape(-1), rows.labels.reshape(-1)
    for hole, end in zip(holes[0].tolist(), holes[1].tolist(), strict=True):
        first, last = max(start, hole), min(stop, end)
        if first < last:
            inputs[target + first - start : target + last - start] = rows.pad_id
        first = max(start, hole - 1)
        if first < last:
            labels[target + first - start : target + last - start] = IGNORED
