"""The reader process: documents in, texts out, within limits of time and memory that the system enforces.

A parser that hangs, grows or crashes on a hostile document ends this process and nothing else. The process has an
environment without keys.

In: one line of JSON, ``{"kinds": [...], "sizes": [...], "seconds": S, "memory": BYTES, "most": CHARACTERS}``, then the
documents one after the other. The kind ``scan`` is a PDF whose pictures are recognized. Out: one line of JSON for each,
``{"text": …, "gaps": [[REASON, [PAGE, …], FAILS, PICTURES], …]}``; for the first unreadable document ``{"problem": …,
"remedy": …}``, and no line after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, BinaryIO

from tasks.documents.docx import read_docx
from tasks.documents.markup import read_html
from tasks.documents.pdf import Ocr, read_pdf
from tasks.documents.plain import Reading, Unreadable

READERS: Mapping[str, Callable[[bytes], Reading]] = {
    "docx": read_docx,
    "html": read_html,
    "pdf": read_pdf,
}
#: The share of the seconds of a scan within which the recognition of a page may begin.
BEGIN_WITHIN = 0.8


def main() -> None:
    head = json.loads(sys.stdin.buffer.readline())
    # On systems without these limits, the parent's timeout remains. Text recognition uses two cores.
    cpu = 2 * head["seconds"] if "scan" in head["kinds"] else head["seconds"]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (head["memory"], head["memory"]))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a library prints must not stand between the answers.
    with os.fdopen(os.dup(1), "wb") as target:
        os.dup2(2, 1)
        serve(head, sys.stdin.buffer, target)


def serve(head: Mapping[str, Any], source: BinaryIO, target: BinaryIO) -> None:
    """Read the documents that the head announces."""
    most: int = head["most"]
    until = time.monotonic() + BEGIN_WITHIN * head.get("seconds", 0)
    for kind, size in zip(head["kinds"], head["sizes"], strict=True):
        read = READERS[kind] if kind != "scan" else partial(_read_scan, until=until)
        reply = _read(read, source.read(size), most)
        target.write(json.dumps(reply).encode() + b"\n")
        target.flush()
        if "text" not in reply:
            return
        most -= len(reply["text"])


def _read_scan(data: bytes, *, until: float) -> Reading:
    from tasks.documents.ocr import load_ocr  # noqa: PLC0415 - few documents need it

    return read_pdf(data, Ocr(load_ocr(), until))


def _read(read: Callable[[bytes], Reading], data: bytes, most: int) -> dict[str, Any]:
    try:
        text, gaps = read(data)
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
    return {"text": text.encode("utf-8", "replace").decode(), "gaps": gaps}
