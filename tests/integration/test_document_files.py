"""Documents on their whole way: over each door into a job, through real workers, to one answer."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.documents import docx, pdf
from tests.harness import DEADLINE, REPOSITORY, fleet, wait_for

CONTRACT = pdf([["1. Scope", "All."], ["2. Term", "Long."], [], ["3. End", "Never."]])
LETTER = docx([("Heading1", "Dear all"), ("", "We write."), ("Heading1", "Yours"), ("", "Us.")])


def file(name, data):
    return {"name": name, "data": base64.b64encode(data).decode()}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    limits = {"keep_seconds": 3600, "payload_bytes": 8192}
    with fleet(folder, models={"fast": {"capacity": 8}}, simulations={"fast": {}}, limits=limits) as running:
        running.start_all([("route,join", 4), ("model.fast", 8)])
        yield running


def ended(running, job_id):
    result = running.producer.wait(job_id, timeout=DEADLINE)
    assert result.state == "succeeded", result.error
    return [(part.title, part.output.removeprefix("[simulated fast] ").strip()) for part in result.parts]


def test_pages_of_a_pdf_are_worked_on_each_by_itself(running):
    job = running.producer.submit({"kind": "sections", "files": [file("contract.pdf", CONTRACT)], "split": "pages"})

    # A page without text is left out, and counted. The simulated model says all words on one line.
    assert ended(running, job.id) == [
        ("page 1", "1. Scope All."),
        ("page 2", "2. Term Long."),
        ("page 4", "3. End Never."),
    ]


def test_documents_of_several_kinds_are_sections_of_one_job(running):
    files = [file("contract.pdf", CONTRACT), file("letter.docx", LETTER), file("note.txt", "Grüße".encode())]

    job = running.producer.submit({"kind": "sections", "files": files})

    assert [title for title, _ in ended(running, job.id)] == ["contract.pdf", "letter.docx", "note.txt"]


def test_pages_that_are_not_read_are_named_in_the_result(running):
    picture = pdf([["Cover"], ["0 0 1 rg"], []]).replace(b"(0 0 1 rg) Tj", b"0 0 90 9 re f")

    job = running.producer.submit(
        {"files": [file("scan.pdf", picture)], "policy": "partial", "prompt": "Say it.", "kind": "single"}
    )
    result = running.producer.wait(job.id, timeout=DEADLINE)

    assert [(one["file"], one["pages"]) for one in result.details["unread"]] == [("scan.pdf", [2]), ("scan.pdf", [3])]
    assert result.parts_total == 1


def test_command_line_reads_documents_where_it_runs(running):
    (running.folder / "letter.docx").write_bytes(LETTER)
    (running.folder / "page.html").write_text("<h1>A page</h1><p>It says.")
    (running.folder / "broken.pdf").write_bytes(b"%PDF-1.7 none")

    def pointsman(*words):
        return subprocess.run(
            [sys.executable, "-m", "ops", "submit", *words, "--config", str(running.config_path)],
            env={**os.environ, **running.env, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True, text=True, check=False, timeout=DEADLINE, cwd=running.folder,
        )  # fmt: skip

    done = pointsman("-f", "letter.docx", "-f", "page.html", "--split", "headings", "--split-option", "level=1")
    assert done.returncode == 0, done.stderr
    assert [title for title, _ in ended(running, done.stdout.strip())] == [
        "letter.docx: Dear all",
        "letter.docx: Yours",
        "page.html: A page",
    ]

    refused = pointsman("--file", "broken.pdf")
    assert refused.returncode == 2, refused.stderr
    assert "files[0]: is a damaged PDF" in refused.stderr


@pytest.fixture(scope="module")
def client(running):
    ready = running.folder / f"ready-{time.monotonic_ns()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "producer.api", "--config", str(running.config_path), "--port", "0",
         "--ready-file", str(ready)],
        env={**os.environ, **running.env}, cwd=REPOSITORY, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(ready.exists, "start of the API")
        with httpx.Client(base_url=ready.read_text().strip(), timeout=DEADLINE) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE)


def test_job_over_http_may_bring_files_as_large_as_a_text_may_be(running, client):
    # In base64 it has more bytes than the limit, which is on what is kept.
    text = "x" * 7_000
    response = client.post("/jobs", json={"files": [file("long.txt", text.encode())]})

    assert response.status_code == 202, response.text
    ((_, message),) = ended(running, response.json()["id"])
    assert message == text


def test_files_of_an_array_are_read_and_kept_apart(running, client):
    body = [{"files": [file("a.html", b"<p>one")]}, {"text": "two"}, {"files": [file("b.pdf", pdf([["three"]]))]}]

    response = client.post("/jobs", json=body)

    assert response.status_code == 202, response.text
    assert [ended(running, job["id"])[0][1] for job in response.json()] == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({"files": [file("a.pdf", b"none")]}, "files[0]", "called a PDF"),
        ([{"files": [file("a.pdf", b"none")]}], "[0].files[0]", "called a PDF"),
        ([{"text": "x"}, {"files": [file("a.docx", b"none")]}], "[1].files[0]", "called a DOCX"),
        ({"files": [{"name": "a.txt", "data": "*"}]}, "files[0].data", "not base64"),
        ({"files": [file("a.txt", b"x" * 9000)]}, "files[0]", "8,192 bytes"),
    ],
)
def test_file_that_cannot_be_read_refuses_the_request(client, body, field, message):
    response = client.post("/jobs", json=body)

    assert response.status_code == 422, response.text
    assert response.json()["field"] == field
    assert message in response.json()["detail"]
