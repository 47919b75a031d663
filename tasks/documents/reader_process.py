"""The reading process: documents in, texts out, within bounds of time and memory that the system keeps.

A parser that hangs, swells or crashes on a hostile document takes this process with it and nothing else. It has no
environment, so it knows no key.

In: one line of JSON, ``{"kinds": [...], "sizes": [...], "seconds": S, "memory": BYTES, "most": CHARACTERS}``, and the
documents one after the other. Out: a line of JSON for each, ``{"text": …}``, or ``{"problem": …, "remedy": …}`` for the
first that can't be read, which is the last.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
from typing import BinaryIO

from tasks.documents.docx import read_docx
from tasks.documents.markup import read_html
from tasks.documents.pdf import read_pdf
from tasks.documents.unreadable import Unreadable

__all__ = ["READERS", "main", "serve"]

READERS = {"docx": read_docx, "html": read_html, "pdf": read_pdf}


def main() -> None:
    head = json.loads(sys.stdin.buffer.readline())
    # Where the system keeps no such bound, the parent's on time remains.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (head["seconds"], head["seconds"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (head["memory"], head["memory"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(head, sys.stdin.buffer, sys.stdout.buffer)


def serve(head: dict[str, object], source: BinaryIO, target: BinaryIO) -> None:
    """Read what the head announces."""
    kinds, sizes, most = head["kinds"], head["sizes"], head["most"]
    assert isinstance(kinds, list)
    assert isinstance(sizes, list)
    assert isinstance(most, int)
    for kind, size in zip(kinds, sizes, strict=True):
        said = _answer(kind, source.read(size), most)
        target.write(json.dumps(said).encode() + b"\n")
        target.flush()
        if "text" not in said:
            return
        most -= len(said["text"])


def _answer(kind: str, data: bytes, most: int) -> dict[str, str]:
    try:
        text = READERS[kind](data)
    except Unreadable as error:
        return {"problem": error.problem, "remedy": error.remedy}
    except MemoryError:
        return {"problem": "takes too much memory to read", "remedy": "save it as text or Markdown"}
    if len(text) > most:
        return {
            "problem": "has more text than a job may have",
            "remedy": "split it, or raise limits.payload_bytes in the configuration",
        }
    # A PDF can hold halves of surrogate pairs; no JSON that is sent on may.
    return {"text": text.encode("utf-8", "replace").decode()}
