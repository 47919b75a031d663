"""Documents as text: plain text is read here, all else in a process of its own (`tasks.documents.reader_process`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tasks.contract.errors import BadInput
from tasks.documents.plain import Gap, Reading, Unreadable, decode, decode_declared

#: The kinds of files that need a parser, by the ending of their names. All other files are read as text.
ENDINGS: Mapping[str, str] = {
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".docm": "docx",
}
#: The modules that a kind needs; the extra `documents` installs them.
_NEEDED = {"html": ("html_to_markdown",), "pdf": ("pypdfium2",), "docx": ("mammoth", "html_to_markdown")}

#: Seconds for all documents of one job that need a parser: 5,000 pages take some 10.
SECONDS = 60
#: Bytes of memory of the reader process. A DOCX of 32 MiB of XML takes some 600 MB.
MEMORY = 1536 * 1024 * 1024
#: With the extra `ocr`: seconds for the scanned pages of a PDF, some two each, and bytes of memory.
OCR_SECONDS, OCR_MEMORY = 180, 4 * 1024 * 1024 * 1024
#: The module of the extra `ocr`.
OCR = "rapidocr"
#: Characters of the text of all documents, unless the caller sets fewer.
MOST = 256 * 1024 * 1024

#: The environment of the reader process: the paths of its libraries, and no key.
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
_START = "import sys; sys.path[:] = sys.argv[1].split('\\n'); from tasks.documents.reader_process import main; main()"
_ROOT = Path(__file__).resolve().parents[2]


class Document(NamedTuple):
    name: str
    data: bytes


def read_document(name: str, data: bytes, *, at: str = "file", most: int = MOST) -> str:
    """Return the text of one document: as it is, as Markdown (HTML, DOCX), or page by page (PDF).

    `at` is the field that an error names. This takes time and a process: do not call it on an event loop.

    Raises:
        BadInput: if the document can't be read, with the reason and the remedy.
    """
    (reading,) = read_documents([Document(name, data)], at=lambda _: at, most=most)
    return reading.text


def read_documents(documents: Sequence[Document], *, at: Callable[[int], str], most: int = MOST) -> list[Reading]:
    """Read several documents, in order, with what is unread of each, as `read_document` does; `most` characters in all.

    Raises:
        BadInput: for the first unreadable document; it names the field `at` of its index.
    """
    kinds = [ENDINGS.get(_ending(document.name), "text") for document in documents]
    readings: dict[int, Reading] = {}
    parsed: list[int] = []
    for index, (document, kind) in enumerate(zip(documents, kinds, strict=True)):
        if not document.data.strip():
            raise BadInput(at(index), "is empty", "leave it out")
        if kind == "text":
            readings[index] = _read_plain(document, at(index))
            continue
        if any(find_spec(module) is None for module in _NEEDED[kind]):
            problem = f"{_ending(document.name)} files need an extra that is not installed"
            raise BadInput(at(index), problem, "pip install 'pointsman[documents]'")
        parsed.append(index)
    if parsed:
        given = [(kinds[index], documents[index].data) for index in parsed]
        found = _read_in_process(given, at=lambda place: at(parsed[place]), most=most)
        for index, reading in zip(parsed, found, strict=True):
            readings[index] = _recognize(documents[index], reading, most) if kinds[index] == "pdf" else reading
            if not readings[index].text.strip():
                raise _without_text(at(index), readings[index])
    return [readings[index] for index in range(len(documents))]


def _without_text(field: str, reading: Reading) -> BadInput:
    pictures = any(gap.fails for gap in reading.gaps)
    problem = "has no text: its pages are pictures" if pictures else "has no text"
    recognizes = find_spec(OCR) is not None
    return BadInput(field, problem, "send a document with text" if recognizes else "pip install 'pointsman[ocr]'")


def _recognize(document: Document, reading: Reading, most: int) -> Reading:
    """Return the PDF with the text of its pictures, where the extra for it is installed and it can be read in time."""
    if not any(gap.pictures for gap in reading.gaps) or find_spec(OCR) is None:
        return reading
    try:
        (recognized,) = _read_in_process([("scan", document.data)], at=str, most=most)
    except BadInput:
        return reading  # with its gaps, which the job's result names
    return recognized


def _ending(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).suffix.lower()


def _read_plain(document: Document, field: str) -> Reading:
    try:
        text = (decode_declared if _ending(document.name) == ".xml" else decode)(document.data)
    except Unreadable as error:
        raise BadInput(field, error.problem, error.remedy) from None
    if not text.strip():
        raise BadInput(field, "is empty", "leave it out")
    return Reading(text)


def _read_in_process(given: Sequence[tuple[str, bytes]], *, at: Callable[[int], str], most: int) -> list[Reading]:
    seconds, memory = (OCR_SECONDS, OCR_MEMORY) if given[0][0] == "scan" else (SECONDS, MEMORY)
    head = {
        "kinds": [kind for kind, _ in given],
        "sizes": [len(data) for _, data in given],
        "seconds": seconds,
        "memory": memory,
        "most": most,
    }
    # The module path of this process, ours first.
    modules = (str(_ROOT), *(str(Path(entry).absolute()) for entry in sys.path if entry))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START, "\n".join(modules)],
            input=b"".join((json.dumps(head).encode(), b"\n", *(data for _, data in given))),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # parsers print what they read
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        answers = (error.output or b"").splitlines()
        raise BadInput(
            at(len(answers)), f"is not read within {seconds} s", "split it, or save it as text or Markdown"
        ) from None
    readings: list[Reading] = []
    for line in done.stdout.splitlines():
        reply = json.loads(line)
        if "text" not in reply:
            raise BadInput(at(len(readings)), reply["problem"], reply["remedy"])
        gaps = (Gap(reason, tuple(pages), *more) for reason, pages, *more in reply.get("gaps", ()))
        readings.append(Reading(reply["text"], tuple(gaps)))
    if len(readings) < len(given):
        problem = f"can't be read: its reader ended with {done.returncode}"
        raise BadInput(at(len(readings)), problem, "it may be damaged: open it and save it anew")
    return readings
