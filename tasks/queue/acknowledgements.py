"""Acknowledgements that wait to be sent, so that many share one round trip."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import ClassVar

__all__ = ["Acknowledgements"]

#: Acknowledgements sent in one step.
MOST_ACKNOWLEDGED = 256


class Acknowledgements:
    """The tags of ended messages that one server still counts as reserved. Any thread may use it.

    All channels of a process to the same server share their tags. So the tags outlive a connection that broke: the
    channel that comes after it sends them.
    """

    _by_server: ClassVar[dict[tuple[object, ...], deque[str]]] = {}

    def __init__(self, server: tuple[object, ...]) -> None:
        self._tags = self._by_server.setdefault(server, deque())

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, tag: str) -> None:
        self._tags.append(tag)

    def take(self) -> list[str]:
        """Remove and return the oldest tags, as many as one step sends."""
        tags: list[str] = []
        with suppress(IndexError):
            while len(tags) < MOST_ACKNOWLEDGED:
                tags.append(self._tags.popleft())
        return tags

    def put_back(self, tags: list[str]) -> None:
        """Return the tags of a step that failed. The server may have removed them: a second removal is harmless."""
        self._tags.extendleft(reversed(tags))
