"""The similarity of texts by shared words and letters. Pure, and the same on every machine.

Words and runs of three letters are counted (1 + ln of the count), each kind is hashed into `WIDTH` places, and compared
by the cosine; the similarity is the mean of both. Words count, not their meaning: "is safe" and "is not safe" are
similar.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Matrix: TypeAlias = NDArray[np.float64]

#: Hash places of words, and of runs of letters; the similarity of unlike texts stays near 0 despite collisions.
WIDTH = 4096
#: Letters of a run.
RUN = 3
#: Characters of a text that are read: outputs of this length differ, or agree, before it.
MOST = 100_000
#: Decimals of a similarity, so that equal texts are equal whatever the order of a sum.
DECIMALS = 9

_WORD = re.compile(r"\w+")


def similarities(texts: Sequence[str]) -> Matrix:
    """Return the similarity of each two of `texts`, from 0 to 1, in an n by n matrix with 1 on the diagonal."""
    plain = [" ".join(unicodedata.normalize("NFKC", text[:MOST]).casefold().split()) for text in texts]
    words = _cosines(np.stack([_words(text) for text in plain]))
    letters = _cosines(np.stack([_letters(text) for text in plain]))
    found = np.round((words + letters) / 2, DECIMALS)
    np.fill_diagonal(found, 1.0)
    return found


def mean_similarities(similar: Matrix, votes: Sequence[int]) -> Matrix:
    """Return the mean similarity of each text to all other votes; `votes` is the number of votes for each text.

    It is 1 if there is no other vote.
    """
    others = sum(votes) - 1
    if not others:
        return np.ones(len(votes))
    # Sorted, so that the same texts in another order have the same sum.
    total: Matrix = np.sort(similar * np.asarray(votes), axis=1).sum(axis=1)
    return np.round((total - 1) / others, DECIMALS)


def _words(text: str) -> NDArray[np.float32]:
    counted = Counter(zlib.crc32(word.encode("utf-8", "surrogatepass")) % WIDTH for word in _WORD.findall(text))
    row = np.zeros(WIDTH, dtype=np.float32)
    row[list(counted)] = list(counted.values())
    return row


def _letters(text: str) -> NDArray[np.float32]:
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < RUN:
        return np.zeros(WIDTH, dtype=np.float32)
    runs: Any = codes[:-2] * np.uint64(0x1F_FFF7) ** 2 + codes[1:-1] * np.uint64(0x1F_FFF7) + codes[2:]
    # Fibonacci hashing: the highest bits of the product (Knuth, volume 3, §6.4).
    places = (runs * np.uint64(0x9E37_79B9_7F4A_7C15)) >> np.uint64(64 - 12)
    return np.bincount(places.astype(np.int64), minlength=WIDTH).astype(np.float32)


def _cosines(counts: NDArray[np.float32]) -> Matrix:
    weights = np.where(counts > 0, 1 + np.log(np.maximum(counts, 1)), 0).astype(np.float64)
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    weights /= np.maximum(lengths, 1e-12)
    return np.clip(weights @ weights.T, 0.0, 1.0)
