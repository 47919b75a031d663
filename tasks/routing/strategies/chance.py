"""Chance from a seed: the same request is always answered alike, and the seed is drawn anew for each decision."""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache

#: The share of [0, 1) that one of 2^52 numbers stands for: so many halves lie strictly between 0 and 1 as floats.
_UNIT = 1.0 / (1 << 52)
#: A Mersenne prime: what lines are taken modulo.
PRIME = (1 << 61) - 1


def shares(seed: int, count: int) -> list[float]:
    """`count` numbers in (0, 1), evenly spread and independent: SHAKE128 of the seed."""
    drawn = hashlib.shake_128(seed.to_bytes(8, "little")).digest(8 * count)
    return [((number >> 12) + 0.5) * _UNIT for number in struct.unpack(f"<{count}Q", drawn)]


def hashed(text: str) -> int:
    """61 bits that stand for `text`, the same in every process: BLAKE2b."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % PRIME


@lru_cache(maxsize=4096)
def line(name: str) -> tuple[int, int]:
    """A slope and an intercept of its own for each name: ``(a · x + b) mod PRIME`` is a hash of x.

    Universal hashing (Carter, Wegman, 1979): a tenth of what hashing key and name together costs.
    """
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16, person=b"line").digest()
    return 1 + int.from_bytes(digest[:8], "big") % (PRIME - 1), int.from_bytes(digest[8:], "big") % PRIME
