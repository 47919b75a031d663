"""Text recognition (OCR) by RapidOCR, whose models come with the package: nothing is downloaded, nothing sent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

#: The least certainty of a line that counts as text.
CERTAINTY = 0.5


def load_ocr() -> Callable[[Any], str]:
    """Return a function from a picture (an array, height × width × RGB) to its text, a line each; takes a second."""
    from rapidocr import RapidOCR  # noqa: PLC0415 - it comes with an extra

    logging.disable(logging.WARNING)
    engine = RapidOCR(params={"Global.log_level": "error", "EngineConfig.onnxruntime.intra_op_num_threads": 2})

    def recognize(picture: Any) -> str:
        found: Any = engine(picture[..., ::-1])
        if found.boxes is None:
            return ""
        read = [
            (tuple(map(float, box.min(axis=0))), tuple(map(float, box.max(axis=0))), text)
            for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            if score >= CERTAINTY
        ]
        return "\n".join(_lines(sorted(read, key=lambda one: one[0][1] + one[1][1])))

    return recognize


#: Least corner, greatest corner and text of a piece of a line.
_Piece = tuple[tuple[float, ...], tuple[float, ...], str]


def _lines(pieces: list[_Piece]) -> Iterator[str]:
    """Yield the pieces, from top to bottom, as lines: a piece whose middle is beside the one before is in its line."""
    line = pieces[:1]
    for before, piece in pairwise(pieces):
        middle = (piece[0][1] + piece[1][1]) / 2
        if before[0][1] <= middle <= before[1][1]:
            line.append(piece)
        else:
            yield " ".join(text for *_, text in sorted(line))
            line = [piece]
    if line:
        yield " ".join(text for *_, text in sorted(line))
