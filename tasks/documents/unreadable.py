"""The error of an unreadable document."""

from __future__ import annotations

__all__ = ["Unreadable"]


class Unreadable(Exception):
    """Raised by the readers of each kind; `tasks.documents.reader` turns it into a `BadInput` that names the file.

    `problem` and `remedy` quote nothing of the document.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem)
