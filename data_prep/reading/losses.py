"""What reading loses, written down: bad records always, dropped documents if asked for."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import zstandard

from data_prep.documents.document import BrokenRecord, Document

REJECTS_NAME = "rejects.jsonl"
DROPPED_NAME = "dropped.jsonl.zst"
SAMPLES_NAME = "dropped-samples.jsonl"
_SAMPLES_PER_REASON = 3
_SAMPLE_CHARACTERS = 400


Line = dict[str, Any]


def lowest(lines: Iterable[Line]) -> list[Line]:
    """Of dropped documents, the few with the lowest ids: the same few however files are divided into tasks."""
    return sorted(lines, key=lambda line: str(line["id"]))[:_SAMPLES_PER_REASON]


class LossWriter:
    """Counts losses and writes them into a task's folder; files without a line are not made. A context manager."""

    def __init__(self, folder: Path, write_dropped: bool) -> None:
        """Write rejects and a few samples of what is dropped; all that is dropped if `write_dropped`."""
        self._folder, self._write_dropped = folder, write_dropped
        self._files: dict[str, BinaryIO] = {}
        self.rejected: Counter[str] = Counter()
        """Bad records, by reason."""
        self.lost_bytes = 0
        """About how much content was lost in stretches whose records cannot be counted."""
        self.dropped: Counter[str] = Counter()
        """Dropped documents, by `filter:reason`."""
        self._samples: defaultdict[str, list[Line]] = defaultdict(list)

    def reject(self, record: BrokenRecord) -> None:
        """A record in which no document could be found."""
        self.rejected[record.reason] += record.records
        self.lost_bytes += record.lost_bytes
        line = {
            "file": record.origin,
            "position": record.position,
            "reason": record.reason,
            "detail": _clean(record.detail),  # it may quote the input
            "records": record.records,
            "lost_bytes": record.lost_bytes,
        }
        self._line(REJECTS_NAME, line)

    def drop(self, reason: str, document: Document, text: str, metadata: Mapping[str, str]) -> None:
        """A document that a filter dropped, with its text as that filter saw it."""
        self.dropped[reason] += 1
        line = {"id": document.id, "file": document.origin, "position": document.position, "reason": reason}
        self._samples[reason] = lowest([*self._samples[reason], {**line, "text": _clean(text[:_SAMPLE_CHARACTERS])}])
        if self._write_dropped:
            self._line(DROPPED_NAME, {**line, "metadata": dict(metadata), "text": _clean(text)})

    def _line(self, name: str, values: Mapping[str, Any]) -> None:
        if name not in self._files:
            file = (self._folder / name).open("wb")
            compressed = name.endswith(".zst")
            self._files[name] = zstandard.ZstdCompressor(level=3).stream_writer(file) if compressed else file
        self._files[name].write(orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE))

    def __enter__(self) -> "LossWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for _, lines in sorted(self._samples.items()):
            for line in lines:
                self._line(SAMPLES_NAME, line)
        for file in self._files.values():
            file.close()


def _clean(text: str) -> str:
    """A text that JSON can hold: a question mark for each lone surrogate."""
    return text.encode("utf-8", "replace").decode("utf-8") if not text.isascii() else text
