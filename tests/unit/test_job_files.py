"""The files of a job become its text, or its items: by its kind and by how it is split."""

import asyncio
import base64
import json
import threading
from pathlib import Path

import pytest

from tasks.batch import read_jobs
from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.contract.job import parse_job
from tasks.contract.job_fields import Item
from tasks.documents import reader
from tasks.loading.load import load
from tasks.parallel import job_files
from tasks.parallel.job_files import replace_files, replace_files_of_jobs
from tasks.workflows.check_job import check_documents
from tests.documents import pdf
from tests.harness import REPOSITORY

CONFIG = {
    "models": {"fast": {"provider": "simulated"}},
    "routes": {"r": {"models": ["fast"]}},
    "default_route": "r",
    "limits": {"payload_bytes": 10_000, "parts": 5},
}


@pytest.fixture(scope="module")
def config():
    return Config.model_validate(CONFIG)


def file(name, data):
    data = data if isinstance(data, bytes) else data.encode()
    return {"name": name, "data": base64.b64encode(data).decode()}


def job(*files, **fields):
    return parse_job({"files": list(files), **fields})


A, B = file("a.md", "# One\nfirst\n# Two\nsecond\n"), file("b.md", "# Three\nthird\n")


def test_replace_files_returns_a_job_without_files_unchanged(config):
    plain = parse_job({"text": "hello"})

    assert replace_files(plain, config) is plain


@pytest.mark.parametrize("fields", [{}, {"kind": "vote", "n": 3}, {"kind": "sections", "split": "headings"}])
def test_replace_files_makes_one_file_the_text_of_a_job(config, fields):
    read = replace_files(job(A, labels={"x": "y"}, **fields), config)

    assert read.files is None
    assert read.text == "# One\nfirst\n# Two\nsecond\n"
    assert read.labels == {"x": "y"}
    assert (read.split, read.items) == (fields.get("split"), None)


def test_replace_files_keeps_the_id_and_all_other_fields(config):
    asked = job(A, kind="sections", split="tokens", split_options={"budget": 50}, policy="quorum", quorum=2)

    read = replace_files(asked, config)

    assert read == asked.model_copy(update={"files": None, "text": "# One\nfirst\n# Two\nsecond\n"})


def test_replace_files_of_a_single_job_unites_files_under_their_names(config):
    read = replace_files(job(file("a.txt", "first\n"), file("b.txt", "\nsecond")), config)

    assert read.text == "# a.txt\n\nfirst\n\n# b.txt\n\nsecond\n"


@pytest.mark.parametrize("how", [None, "files"])
def test_replace_files_without_another_split_makes_each_file_a_section(config, how):
    read = replace_files(job(A, file("b.pdf", pdf([["P"]])), kind="sections", split=how), config)

    assert read.split is None
    assert read.items == (Item(text="# One\nfirst\n# Two\nsecond\n", title="a.md"), Item(text="P\n\f", title="b.pdf"))


def test_replace_files_cuts_several_files_one_by_one_under_their_names(config):
    read = replace_files(job(A, B, kind="sections", split="headings", split_options={"level": 1}), config)

    assert (read.split, read.split_options) == (None, {})
    assert [(item.title, item.text) for item in read.items] == [
        ("a.md: One", "# One\nfirst\n"),
        ("a.md: Two", "# Two\nsecond\n"),
        ("b.md: Three", "# Three\nthird\n"),
    ]


def test_replace_files_for_a_plan_gives_the_model_all_files(config):
    read = replace_files(job(A, B, kind="sections", split="plan"), config)

    assert read.split == "plan"
    assert read.text.startswith("# a.md\n\n# One")


def test_replace_files_shortens_a_long_name_in_titles(config):
    name = "n" * 250 + ".md"
    read = replace_files(job(file(name, "# " + "t" * 300), A, kind="sections", split="headings"), config)

    assert all(len(item.title) <= 200 for item in read.items)


def test_replace_files_reads_base64_in_lines(config):
    wrapped = base64.encodebytes(b"x" * 200).decode()

    assert replace_files(job({"name": "a.txt", "data": wrapped}), config).text == "x" * 200


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"files": [A, {"name": "b.txt", "data": "no base64!"}]}, "files[1].data", "base64"),
        ({"files": [A, {"name": "b.txt", "data": "ü"}]}, "files[1].data", "base64"),
        ({"files": [A, file("b.pdf", "no PDF")]}, "files[1]", "called a PDF"),
        ({"files": [file("a.txt", "x" * 6000), file("b.txt", "x" * 6000)]}, "files[1]", "10,000 bytes"),
        ({"files": [A, file("b.txt", "none")], "kind": "sections", "split": "headings"}, "files[1]", "no Markdown"),
        ({"files": [A], "kind": "sections", "split": "chapters"}, "split", "'chapters'"),
        (
            {"files": [A, B], "kind": "sections", "split": "headings", "split_options": {"x": 1}},
            "split_options.x",
            "not",
        ),
        ({"files": [A, B], "kind": "sections", "split_options": {"level": 1}}, "split_options", "cuts a text"),
        ({"files": [A], "kind": "sections", "policy": "quorum", "quorum": 2}, "quorum", "has 1 parts"),
    ],
)
def test_replace_files_error_names_the_place_in_the_request(config, fields, field, message):
    with pytest.raises(BadInput) as caught:
        replace_files(parse_job(fields), config, at="[3]")

    assert caught.value.field == f"[3].{field}"
    assert message in caught.value.problem


def test_read_batch_accepts_jobs_with_files(config, tmp_path):
    batch = tmp_path / "batch.jsonl"
    batch.write_text(json.dumps({"files": [file("a.pdf", pdf([["P"]]))]}) + "\n")

    assert [read.text for _, read in read_jobs(batch, config)] == ["P\n\f"]

    batch.write_text(json.dumps({"text": "x"}) + "\n" + json.dumps({"files": [file("a.pdf", "x")]}) + "\n")
    with pytest.raises(BadInput) as caught:
        list(read_jobs(batch, config))
    assert caught.value.field == "line 2.files[0]"


def test_replace_files_of_jobs_runs_off_the_event_loop(config, monkeypatch):
    threads = set()
    real = job_files.replace_files

    def watched(*given, **more):
        threads.add(threading.current_thread().name.partition("_")[0])
        return real(*given, **more)

    monkeypatch.setattr(job_files, "replace_files", watched)
    plain = parse_job({"text": "hello"})

    read = asyncio.run(replace_files_of_jobs([plain, job(A)], config, at=lambda place: f"[{place}]"))

    assert read[0] is plain
    assert read[1].text.startswith("# One")
    assert threads == {"documents"}


SCAN = Path(__file__).parents[1] / "corpus_documents" / "reportlab-mixed.pdf"


@pytest.fixture
def _without_ocr(monkeypatch):
    monkeypatch.setattr(reader, "OCR", "no_such_module")


@pytest.mark.usefixtures("_without_ocr")
def test_replace_files_refuses_unread_pages_by_policy(config):
    given = file("scan.pdf", SCAN.read_bytes())
    roomy = config.model_copy(update={"limits": config.limits.model_copy(update={"payload_bytes": 100_000})})

    with pytest.raises(BadInput, match=r"files\[0\].*'scan.pdf'.*pages 2, 3"):
        replace_files(job(given), roomy)
    read = replace_files(job(given, policy="partial"), roomy)

    assert [(one.file, one.pages) for one in read.unread] == [("scan.pdf", (2, 3)), ("scan.pdf", (4,))]
    assert parse_job(read.model_dump(mode="json")).unread == read.unread


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("a.md", {"split": "numbered"}, r"files\[0\]: the document has no numbered clauses; it has 2 headings"),
        ("a.md", {"split": "pages"}, r"files\[0\]: the document has no form feed"),
        ("a.md", {"split": "headings", "split_options": {"level": 9}}, "split_options.level"),
    ],
)
def test_replace_files_refuses_a_file_that_cannot_be_cut(config, name, fields, message):
    with pytest.raises(BadInput, match=message):
        replace_files(job(file(name, "# One\nfirst\n# Two\nsecond\n"), kind="sections", **fields), config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "sections", "split": "numbered"}, "^text: the document has no numbered clauses; it has 1 heading; "),
        ({"kind": "sections", "split": "json"}, "^text: is not JSON"),
        ({"kind": "sections", "split": "lines"}, "^text: makes 6 sections, the limit is 5"),
    ],
)
def test_check_documents_refuses_a_text_that_cannot_be_cut(config, fields, message):
    with pytest.raises(BadInput, match=message):
        check_documents(parse_job({"text": "# One\na\nb\nc\nd\ne\n", **fields}), config)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_read_batch_takes_the_byte_order_mark_off(config, tmp_path, encoding):
    batch = tmp_path / "batch.jsonl"
    batch.write_bytes('{"text": "\ufeffHello"}\r\n{"text": "Grüße"}\r\n'.encode(encoding))

    assert [read.text for _, read in read_jobs(batch, config)] == ["Hello", "Grüße"]


def test_read_batch_in_another_encoding_is_refused_with_the_remedy(config, tmp_path):
    batch = tmp_path / "batch.jsonl"
    batch.write_bytes('{"text": "Grüße"}\n'.encode("latin-1"))

    with pytest.raises(BadInput, match=r"is not text in utf-8; save it in UTF-8"):
        list(read_jobs(batch, config))


def test_job_takes_byte_order_marks_off_its_texts():
    items = ["\ufeffa", {"text": "\ufeffb"}]
    read = parse_job({"kind": "sections", "items": items, "prompt": "\ufeffDo it."})

    assert (read.items, read.prompt) == (("a", Item(text="b")), "Do it.")
    assert parse_job({"messages": [{"role": "user", "content": "\ufeffHi"}]}).messages[0].content == "Hi"
    with pytest.raises(BadInput, match="is empty"):
        parse_job({"text": "\ufeff\n"})


def test_check_documents_cuts_as_the_first_step_of_a_workflow_does():
    ready = load(REPOSITORY / "pointsman.yaml")
    fields = {"kind": "legal_review", "metadata": {"party": "Customer"}}

    check_documents(parse_job({"text": "1. Scope\nAll.\n2. Term\nLong.\n", **fields}), ready)
    with pytest.raises(BadInput, match=r"^text: the step '\w+' of 'legal_review' cuts it by 'numbered'.*no numbered"):
        check_documents(parse_job({"text": "No clauses.", **fields}), ready)
