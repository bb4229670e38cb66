"""CRC-32 of a whole from those of its parts, so that a tensor's checksum does not depend on how it was divided.

The checksum is zlib's, so that `zlib.crc32(tensor.numpy())` of an exported tensor is the same number. It proves that a
tensor came through resharding; damage on disk is found by sha256.
"""

from collections.abc import Iterable
from functools import lru_cache

_POLYNOMIAL = 0xEDB88320
"""CRC-32 of IEEE 802.3, bits reversed."""
_ONE = 1 << 31
"""The polynomial 1: the highest bit is the lowest power."""


def combined(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of bytes laid end to end.

    Args:
        parts: CRC-32 and number of bytes of each, in order. Of parts that are spread, among zeros or each other, the
            bytes from the end of the one before to their own.
    """
    total = 0
    for crc, num_bytes in parts:
        total = _product(_power_of_x(8 * num_bytes), total) ^ crc
    return total


@lru_cache(maxsize=4096)
def _power_of_x(exponent: int) -> int:
    """x^exponent modulo the polynomial: what moves a checksum over as many bits."""
    power, square = _ONE, _ONE >> 1
    while exponent:
        if exponent & 1:
            power = _product(power, square)
        square, exponent = _product(square, square), exponent >> 1
    return power


def _product(one: int, other: int) -> int:
    """The product of two polynomials over GF(2) modulo the polynomial."""
    product, bit = 0, _ONE
    while bit:
        if one & bit:
            product ^= other
        other = (other >> 1) ^ (_POLYNOMIAL if other & 1 else 0)
        bit >>= 1
    return product
