"""Seeds derived from names, so that no two uses of randomness share a stream."""

import xxhash


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from the parts, the same on every machine and version."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return xxhash.xxh3_64_intdigest(text.encode("utf-8")) >> 1
