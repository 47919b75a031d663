"""Batch files: a line that is no job is refused with its number and the reason."""

from __future__ import annotations

import pytest

from tasks.batch import read_jobs
from tasks.contract.errors import BadInput
from tasks.loading.load import parse

CONFIG = parse("models: {m: {provider: simulated}}\nroutes: {r: {models: [m]}}\ndefault_route: r")
GOOD = '{"text": "hello"}'


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[" * 100_000, "line 2: is not JSON: recursion limit exceeded at column"),
        ('{"a":' * 10_000, "line 2: is not JSON: recursion limit exceeded at column"),
        ('{"text": "x", "metadata": {"a": ' + "[" * 150 + "]" * 150 + "}}", "line 2.metadata: is nested more than 64"),
        ('{"text": "x", "n": ' + "1" * 10_000 + "}", "line 2: is not JSON: number out of range"),
        ('{"text": "\\ud800"}', "line 2: is not JSON: "),
        ('{"text": "x", "temperature": NaN}', "line 2: is not JSON: expected value at column"),
        ('{"text": "x", "metadata": {"a": 1e999}}', "line 2.metadata: holds NaN, infinity, or a number beyond"),
        ('{"text": "x", "kind": "vote", "n": true}', "line 2.n: input should be a valid integer, not true or false"),
        ("hello", "line 2: is not JSON: expected value at column 1; write one job, as JSON"),
        ("7", "line 2: must be a JSON object"),
    ],
)
def test_read_jobs_names_the_line_and_the_reason(tmp_path, line, problem):
    file = tmp_path / "jobs.jsonl"
    file.write_text(f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(BadInput) as caught:
        list(read_jobs(file, CONFIG))
    assert str(caught.value).startswith(problem)
