"""The reader process: documents in, texts out, within limits of time and memory that the system enforces.

A parser that hangs, grows or crashes on a hostile document ends this process and nothing else. The process has an
environment without keys.

In: one line of JSON, ``{"kinds": [...], "sizes": [...], "seconds": S, "memory": BYTES, "most": CHARACTERS}``, then the
documents one after the other. Out: one line of JSON for each, ``{"text": …}``; for the first unreadable document
``{"problem": …, "remedy": …}``, and no line after it.
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
    # On systems without these limits, the parent's timeout remains.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (head["seconds"], head["seconds"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (head["memory"], head["memory"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(head, sys.stdin.buffer, sys.stdout.buffer)


def serve(head: dict[str, object], source: BinaryIO, target: BinaryIO) -> None:
    """Read the documents that the head announces."""
    kinds, sizes, most = head["kinds"], head["sizes"], head["most"]
    assert isinstance(kinds, list)
    assert isinstance(sizes, list)
    assert isinstance(most, int)
    for kind, size in zip(kinds, sizes, strict=True):
        reply = _read(kind, source.read(size), most)
        target.write(json.dumps(reply).encode() + b"\n")
        target.flush()
        if "text" not in reply:
            return
        most -= len(reply["text"])


def _read(kind: str, data: bytes, most: int) -> dict[str, str]:
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
    # A PDF can hold halves of surrogate pairs, which JSON for other services may not.
    return {"text": text.encode("utf-8", "replace").decode()}
