"""Checksums of an export, in the form of `sha256sum`: anybody can compare them by `sha256sum --check SHA256SUMS`."""

import hashlib
from pathlib import Path

from pipeline.errors import ExportError
from pipeline.runtime.files import write_text

SUMS_NAME = "SHA256SUMS"


def write_sums(folder: Path) -> None:
    """List the sha256 of every file of a folder in it."""
    lines = (f"{_sha256(folder / name)}  {name}\n" for name in _files(folder))
    write_text(folder / SUMS_NAME, "".join(lines))


def sum_faults(folder: Path) -> list[tuple[str, str | None]]:
    """Each file of an export, listed or there, and what is wrong with it. Raises ExportError if the list is none."""
    try:
        lines = (folder / SUMS_NAME).read_text(encoding="utf-8").splitlines()
        listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise ExportError(f"{folder / SUMS_NAME} cannot be read ({error}); export again") from error
    return [(name, _fault(folder, name, listed.get(name))) for name in sorted({*listed, *_files(folder)})]


def _fault(folder: Path, name: str, digest: str | None) -> str | None:
    if digest is None:
        return f"is not listed in {SUMS_NAME}"
    try:
        return None if _sha256(folder / name) == digest else "has other bytes than were written"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _files(folder: Path) -> list[str]:
    found = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != SUMS_NAME)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
