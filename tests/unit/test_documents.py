"""Documents as text: the result for each kind, and the refusal of unreadable and hostile files."""

import io
import json
import re
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.documents import Document, read_document, read_documents, reader
from tasks.documents.pdf import PAGES
from tasks.documents.reader_process import READERS, serve
from tests.documents import docx, pdf

#: A word of the documents that no error may quote.
SECRET = "Zanzibar"


def refused(name, data, **more):
    with pytest.raises(BadInput) as caught:
        read_document(name, data, at="files[0]", **more)
    assert caught.value.field == "files[0]"
    assert caught.value.remedy
    assert SECRET not in str(caught.value)
    return str(caught.value)


# -- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.txt", "a.MD", "a.py", "LICENSE", "a.b.csv", "dir.pdf\\a.json"])
def test_read_document_returns_text_unchanged_in_each_declared_encoding(name, encoding):
    assert read_document(name, "Grüße,\r\n漢字\n".encode(encoding)) == "Grüße,\r\n漢字\n"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"caf\xe9 Zanzibar", "not UTF-8"),
        ("a.txt", b"Zanzibar\x00", "zero bytes"),
        ("a.txt", b"\xff\xfe\x00", "not text in utf-16-le"),
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n", "is empty"),
        ("a.txt", b"\xef\xbb\xbf\n", "is empty"),
        ("a.doc", b"\xd0\xcf\x11\xe0rest", "an old Office document"),
        ("a.xlsx", b"PK\x03\x04rest", "a ZIP archive"),
        ("a.txt", b"%PDF-1.4 Zanzibar", "a PDF"),
        ("a.png", b"\x89PNGrest", "a picture"),
    ],
)
def test_read_document_refuses_files_that_are_no_text(name, data, message):
    assert message in refused(name, data)


@given(data=st.binary(max_size=200))
def test_read_document_of_any_bytes_returns_text_or_bad_input(data):
    try:
        assert read_document("a.txt", data).strip()
    except BadInput as error:
        assert error.remedy  # noqa: PT017 - either is right


# -- HTML ----------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><html><head><title>T</title><style>p {color: red}</style><script>alert(1)</script></head>
<body><nav><a href="/">Home</a></nav><h1>One &amp; all</h1><p>A <b>bold</b> <a href="http://x.example/y">link</a>.</p>
<ul><li>first<ul><li>below</li></ul></li><li>second</li></ul>
<table><tr><th>n</th><th>v</th></tr><tr><td>a|b</td><td>1</td></tr></table>
<img src="data:image/png;base64,AAAA" alt="pic"><template>no</template></body></html>"""


def test_read_document_of_html_returns_markdown_of_its_readable_text():
    text = read_document("a.html", PAGE.encode())

    assert text.startswith("# One & all\n\nA **bold** link.\n\n- first\n  - below\n- second\n")
    assert re.search(r"^\| n +\| v +\|\n\| -+ \| -+ \|\n\| a\\\|b +\| 1 +\|$", text, re.MULTILINE)
    assert not re.search("alert|color|Home|base64|example|no$", text)


def test_read_document_of_html_reads_its_declared_encoding():
    assert read_document("a.htm", b'<meta charset="ISO-8859-1"><p>caf\xe9 \x93so\x94') == "café “so”\n"
    assert "not UTF-8" in refused("a.htm", b'<meta charset="zip"><p>caf\xe9')
    assert "not UTF-8" in refused("a.htm", b"<p>caf\xe9")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>10<sup>6</sup> on the 1<sup>st</sup>, log<sub>2</sub>8<sup>[1]</sup>", "10^6^ on the 1st, log~2~8[1]\n"),
        ("<p hidden>no</p><p style='display:none'>no</p><p>yes", "yes\n"),
        (
            '<p><input name=n value="Ada &amp; Co"> <input type=checkbox checked> <input type=hidden value=no>',
            "Ada & Co [x]\n",
        ),
        ("<p><select><option>red<option selected>blue</select>", "red [x] blue\n"),
        ("<p>1. Scope<p>so\u00adft", "1. Scope\n\nsoft\n"),
    ],
)
def test_read_document_of_html_keeps_exponents_and_values_of_forms(html, text):
    assert re.sub(" +", " ", read_document("a.html", html.encode())) == text


@pytest.mark.parametrize(
    ("label", "encoding"),
    [("windows-1251", "cp1251"), ("x-sjis", "cp932"), ("koi8-r", "koi8-r"), ("gb2312", "gb18030"), ("big5", "big5")],
)
def test_read_document_of_html_and_xml_reads_odd_declared_encodings(label, encoding):
    word = "Привет" if encoding in {"cp1251", "koi8-r"} else "日本"

    assert read_document("a.html", f"<meta charset='{label}'><p>{word}".encode(encoding)) == f"{word}\n"
    xml = f'<?xml version="1.0" encoding="{label}"?><a>{word}</a>'
    assert read_document("a.xml", xml.encode(encoding)) == xml


def test_read_document_of_html_refuses_pages_without_text_or_end():
    assert "has no text" in refused("a.html", b"<script>Zanzibar</script>")
    assert "nested too deep" in refused("a.html", b"<div>" * 100_000 + b"Zanzibar")


# -- PDF -----------------------------------------------------------------------------------------------------------


def test_read_document_of_a_pdf_ends_each_page_with_a_form_feed():
    data = pdf([["1. Scope", "All (of it)."], [], ["Caf\xe9"]])

    assert read_document("a.PDF", data) == "1. Scope\nAll (of it).\n\f\n\fCafé\n\f"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pdf([[], []]), "has no text"),
        (pdf([[SECRET]], encrypted=True), "encrypted"),
        (pdf([[SECRET]])[:200], "damaged"),
        (b"%PDF-1.7\nZanzibar", "damaged"),
        (b"Zanzibar", "is called a PDF"),
        (pdf([["x"]] * (PAGES + 1)), "5,001 pages"),
    ],
    ids=["blank", "encrypted", "cut off", "garbage", "text", "long"],
)
def test_read_document_of_a_pdf_without_text_is_refused(data, message):
    assert message in refused("a.pdf", data)


def bomb(*filters):
    """A PDF whose page unpacks to two gigabytes."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b" " * 2**24) for _ in range(128)) + packer.flush()
    for _ in filters[1:]:
        data = zlib.compress(data, 9)
    whole, written = pdf([["x"]]), b"<< /Filter [%s] /Length %d >>\nstream\n" % (b"".join(filters), len(data))
    start, end = whole.index(b"<< /Length"), whole.index(b"endstream")
    return whole[:start] + written + data + b"\n" + whole[end:]


@pytest.mark.parametrize("filters", [(b"/FlateDecode",), (b"/FlateDecode", b"/FlateDecode")])
def test_read_document_of_a_pdf_that_unpacks_to_gigabytes_is_refused(filters):
    assert re.search("its reader ended|too much memory|has no text", refused("a.pdf", bomb(*filters)))


# -- DOCX ----------------------------------------------------------------------------------------------------------


def test_read_document_of_a_docx_returns_markdown():
    body = [("Heading1", "Head & tail"), ("", "A text."), ("bullet", "one"), ("bullet", "two"), ("Heading2", "Below")]

    text = read_document("a.docx", docx(body, table=[["n", "v"], ["a", "1"]]))

    assert re.sub(" +", " ", text) == (
        "# Head & tail\n\nA text.\n\n- one\n- two\n\n## Below\n\n| n | v |\n| --- | --- |\n| a | 1 |\n"
    )


def deep(levels):
    space = "xmlns:w='http://schemas.openxmlformats.org/wordprocessingml/2006/main'"
    inner = "<w:sdtContent>" * levels + "</w:sdtContent>" * levels
    return f"<w:document {space}><w:body>{inner}</w:body></w:document>"


ENTITIES = '<!DOCTYPE x [<!ENTITY a "Zanzibar"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (docx([]), "has no text"),
        (b"PK\x03\x04Zanzibar", "none, or damaged"),
        (b"Zanzibar", "none, or damaged"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 100, "encrypted"),
        (docx([("", SECRET)], files={"word/document.xml": ENTITIES}), "document type"),
        (docx([("", SECRET)], files={"word/footnotes.xml": ENTITIES}), "document type"),
        (docx([("", SECRET)], files={"word/document.xml": "<Zanzibar>"}), "damaged"),
        (docx([("", SECRET)], files={"word/document.xml": "<a/>"}), "damaged"),
        (docx([("", SECRET)], files={"word/more.xml": "<a>" + " " * 33 * 1024 * 1024 + "</a>"}), "unpacks to more"),
        (docx([("", SECRET)], files={"media.bin": "0" * 257 * 1024 * 1024}), "unpacks to more"),
        (docx([("", SECRET)], files={f"{n}.bin": "" for n in range(10_001)}), "unpacks to more"),
        (docx([], files={"word/document.xml": deep(3000)}), "nested too deep"),
    ],
    ids=[
        "empty", "garbage", "text", "encrypted", "entities", "entities beside", "broken", "another", "XML bomb",
        "bomb", "crowd", "depth",
    ],
)  # fmt: skip
def test_read_document_of_a_docx_refuses_damaged_and_hostile_files(data, message):
    assert message in refused("a.docx", data)


def test_read_document_of_a_docx_refuses_an_archive_without_a_document():
    data = docx([]).replace(b"word/document.xml", b"word/documents.ml")

    assert "another archive" in refused("a.docx", data)


def test_read_document_of_a_docx_refuses_an_entry_larger_than_declared():
    honest = docx([("", "x" * 5_000)])
    size = len("x" * 5_000)
    entries = list(re.finditer(rb"PK\x01\x02", honest))
    lying = bytearray(honest)
    for entry in entries:
        place = entry.start() + 24
        declared = int.from_bytes(lying[place : place + 4], "little")
        if declared > size:
            lying[place : place + 4] = (10).to_bytes(4, "little")

    assert "damaged" in refused("a.docx", bytes(lying))


# -- the reading process -------------------------------------------------------------------------------------------


def test_read_documents_keeps_the_order_and_names_the_unreadable_one():
    documents = [
        Document("a.pdf", pdf([["P"]])),
        Document("b.txt", b"T"),
        Document("c.docx", docx([("", "D")])),
        Document("d.html", b"<p>H"),
    ]
    assert [reading.text for reading in read_documents(documents, at=str)] == ["P\n\f", "T", "D\n", "H\n"]

    with pytest.raises(BadInput) as caught:
        read_documents([*documents, Document("e.pdf", b"none")], at=lambda index: f"files[{index}]")
    assert caught.value.field == "files[4]"


def test_read_documents_refuses_more_text_than_allowed():
    assert "more text than a job" in refused("a.html", b"<p>" + b"word " * 1000, most=4000)


def test_reader_process_has_an_environment_without_keys(monkeypatch):
    seen = {}

    def run(command, **more):
        seen.update(more["env"])
        return SimpleNamespace(returncode=0, stdout=b'{"text": "x"}\n')

    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr(reader.subprocess, "run", run)

    assert read_document("a.pdf", b"any") == "x"
    assert SECRET not in seen.values()


def test_reader_process_that_crashes_ends_alone(monkeypatch):
    monkeypatch.setattr(reader, "_START", "import os; os.kill(os.getpid(), 11)")

    assert "its reader ended with -11" in refused("a.pdf", pdf([["x"]]))


def test_reader_process_that_hangs_is_ended_and_the_document_named(monkeypatch):
    # It answers for the first document, and no more.
    monkeypatch.setattr(
        reader, "_START", 'print(\'{"text": "x"}\', flush=True); import threading; threading.Event().wait()'
    )
    monkeypatch.setattr(reader, "SECONDS", 2)

    with pytest.raises(BadInput, match="is not read within 2 s") as caught:
        read_documents([Document("a.pdf", b"1"), Document("b.pdf", b"2")], at=lambda index: f"files[{index}]")

    assert caught.value.field == "files[1]"


def test_reader_process_that_exceeds_its_memory_is_ended(monkeypatch):
    monkeypatch.setattr(reader, "MEMORY", 1024 * 1024)

    assert re.search("its reader ended|too much memory", refused("a.pdf", pdf([["x"]])))


def test_read_document_names_a_missing_extra_and_its_installation(monkeypatch):
    monkeypatch.setattr(reader, "find_spec", lambda _: None)

    assert "pip install 'pointsman[documents]'" in refused("a.pdf", pdf([["x"]]))


def test_reader_process_stops_at_the_first_unreadable_document():
    data = [pdf([["x"]]), b"none", pdf([["y"]])]
    head = {"kinds": ["pdf"] * 3, "sizes": [len(item) for item in data], "most": 100}
    out = io.BytesIO()

    serve(head, io.BytesIO(b"".join(data)), out)

    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [set(answer) for answer in answers] == [{"text", "gaps"}, {"problem", "remedy"}]


@pytest.mark.parametrize("kind", sorted(READERS))
@given(data=st.binary(max_size=300), cut=st.integers(0, 3000), flip=st.integers(0, 3000))
def test_readers_of_any_bytes_return_text_or_raise_unreadable(kind, data, cut, flip):
    whole = {"pdf": pdf([["Some text"]]), "docx": docx([("", "Some text")]), "html": PAGE.encode()}[kind]
    broken = bytearray(whole[:cut] + data + whole[cut + len(data) :])
    if flip < len(broken):
        broken[flip] ^= 0x55
    out = io.BytesIO()

    serve({"kinds": [kind], "sizes": [len(broken)], "most": 10**6}, io.BytesIO(bytes(broken)), out)

    assert set(json.loads(out.getvalue())) in ({"text", "gaps"}, {"problem", "remedy"})
