"""Server-sent events, parsed from bytes as they arrive (WHATWG HTML, "Server-sent events", 2024)."""

from __future__ import annotations

from dataclasses import dataclass

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Event:
    """`name` is the field ``event``, "" where the server sends none; `data` are its lines, joined."""

    name: str
    data: str


class TooLong(ValueError):
    """One event has more bytes than are kept for it."""


class Events:
    """Parses chunks, cut anywhere, even inside a character, into whole events.

    Comments, ids and ``retry`` are dropped. Lines may end with LF, CRLF or CR. Beyond the standard, an event without
    its blank line counts at the end of the stream: some servers leave the line out after their last event.
    """

    def __init__(self, *, most_bytes: int) -> None:
        self._most = most_bytes
        self._start = True
        self._rest: list[bytes] = []
        self._name = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes.

        Raises:
            TooLong: for an event above `most_bytes`; the rest of the stream is unreadable then.
        """
        self._size += len(chunk)
        if self._size > self._most:
            raise TooLong
        self._rest.append(chunk)
        if b"\n" not in chunk and b"\r" not in chunk and not self._ends_with_cr():
            return []
        return self._cut(b"".join(self._rest), end=False)

    def finish(self) -> list[Event]:
        """The events that the end of the stream completes."""
        return self._cut(b"".join(self._rest) + b"\n\n", end=True)

    def _ends_with_cr(self) -> bool:
        return len(self._rest) > 1 and self._rest[-2].endswith(b"\r")

    def _cut(self, raw: bytes, *, end: bool) -> list[Event]:
        if self._start:
            if not end and len(raw) < len(_BOM) and _BOM.startswith(raw):
                return []
            raw = raw.removeprefix(_BOM)
            self._start = False
        lines = raw.splitlines(keepends=True)
        self._rest = []
        # A CR at the very end may be half of a CRLF.
        if lines and not lines[-1].endswith(b"\n") and not end:
            self._rest = [lines.pop()]
        events = [event for line in lines if (event := self._read(line.rstrip(b"\r\n"))) is not None]
        if events:
            self._size = sum(map(len, self._rest)) + sum(map(len, self._data))
        return events

    def _read(self, line: bytes) -> Event | None:
        if not line:
            event = Event(self._name, "\n".join(self._data)) if self._data else None
            self._name, self._data = "", []
            return event
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
        return None
