"""Documents made by other programs become the text that stands beside them."""

from functools import cache
from pathlib import Path

import pytest

from tasks.contract.errors import BadInput
from tasks.documents import Document, read_documents, reader
from tasks.parallel.job_files import list_unread

FOLDER = Path(__file__).parents[1] / "corpus_documents"
FILES = sorted(path for path in FOLDER.iterdir() if path.suffix != ".txt" and path.name != "README.md")


@cache
def found(path: Path) -> str:
    """The text of a document, below what is not read of it; or its refusal."""
    try:
        (reading,) = read_documents([Document(path.name, path.read_bytes())], at=str)
    except BadInput as error:
        return f"refused: {error.problem}\n"
    unread = "".join(f"unread: {one.describe()}\n" for one in list_unread(path.name, reading.gaps))
    return unread + reading.text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_document_of_another_program_has_the_expected_text(path, monkeypatch):
    monkeypatch.setattr(reader, "OCR", "no_such_module")

    expected = path.with_name(f"{path.name}.txt").read_bytes().decode()

    assert found(path) == expected


def test_documents_of_other_programs_are_many_small_and_listed():
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert len(FILES) >= 20
    assert max(path.stat().st_size for path in FILES) < 60_000
    assert [path.name for path in FILES if f"`{path.name}`" not in listed] == []


def test_scanned_pages_are_read_where_the_extra_is_installed():
    text = found.__wrapped__(FOLDER / "reportlab-mixed.pdf")

    assert text == (
        "unread: blank (page 4)\nCover\n\f1. Definitions\nThe Supplier means Acme GmbH.\n\f"
        "2. Liability\nThe Supplier is liable for 500 EUR.\n\f\n\f"
    )
