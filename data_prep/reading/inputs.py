"""Inputs by their content: what a corpus was made from, in one checksum."""

import hashlib
from collections.abc import Iterable, Mapping


def contents_sha256(inputs: Iterable[Mapping[str, str | None]]) -> str:
    """Checksum over names and content hashes of a source's inputs.

    Args:
        inputs: For each group of inputs, in their order: origin of a file -> content hash, None if it has none.
    """
    digest = hashlib.sha256()
    for group in inputs:
        for origin, checksum in group.items():
            digest.update(f"{origin}\x1f{checksum}\n".encode())
    return digest.hexdigest()
