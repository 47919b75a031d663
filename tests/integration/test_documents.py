"""Real documents, cut by their own numbered clauses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.contract.errors import BadInput
from tests.harness import DEADLINE, REPOSITORY, fleet

SHARED = REPOSITORY.parent / "shared" / "data" / "documents"
#: Each document with the numbers of its clauses. Those of `shared` are left out where it is absent.
DOCUMENTS: dict[Path, range] = {REPOSITORY / "LICENSE": range(1, 10)}
if SHARED.is_dir():
    DOCUMENTS |= {SHARED / "gpl-3.txt": range(18), SHARED / "mpl-2.0.txt": range(1, 11)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_document_review_by_numbered_sections_joins_all_of_them_in_order(tmp_path, document):
    simulations = {"fast": {"latency": {"distribution": "exponential", "mean": 0.05}}}
    with fleet(tmp_path, models={"fast": {"capacity": 8}}, simulations=simulations) as running:
        running.start_all([("route,join", 4), ("model.fast", 8)])
        job = running.producer.submit(
            {"kind": "sections", "split": "numbered", "text": document.read_text(), "prompt": "Review this clause."}
        )
        result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded"
    numbers = [int(match[1]) for part in result.parts if (match := re.match(r"(\d+)\.", part.title))]
    assert numbers == list(DOCUMENTS[document])
    headings = [line for line in result.output.splitlines() if line.startswith("## ")]
    assert headings == [f"## {part.title}" for part in result.parts if part.title]


def test_document_without_sections_of_that_kind_is_refused_at_submission(tmp_path):
    with (
        fleet(tmp_path, models={"fast": {}}, simulations={"fast": {}}) as running,
        pytest.raises(BadInput, match=r"^text: the document has no numbered clauses"),
    ):
        running.producer.submit({"kind": "sections", "split": "numbered", "text": "No clauses here."})


def test_parts_beyond_a_wave_go_out_in_waves_and_are_all_joined(tmp_path):
    with fleet(tmp_path, models={"fast": {"capacity": 64}}, simulations={"fast": {}}) as running:
        running.start_all([("route,join", 4), ("model.fast", 64)])
        items = [f"item {number}" for number in range(1050)]
        job = running.producer.submit({"kind": "sections", "items": items})
        result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "succeeded"
    assert [part.output for part in result.parts] == [f"[simulated fast] {item}" for item in items]
    assert {part.attempts for part in result.parts} == {1}
