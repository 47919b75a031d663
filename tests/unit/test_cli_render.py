"""How results look."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from ops.cli.exits import Exit, Failure, exit_of_state
from ops.cli.render import age, cost, print_facts, print_json, print_table, print_text, printable, seconds, summary
from ops.cli.waiting import MOST_ROWS, shown_parts
from tasks.contract.result import FINAL, Decision, Part, Result, Usage

ESCAPE = "\x1b[31m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_result(parts: int = 1, **fields: Any) -> Result:
    made = tuple(
        Part(index=index, state="running" if index % 2 else "succeeded", model="fast", simulated=True)
        for index in range(parts)
    )
    decision = Decision(route="billing", classifier="rules", confidence=1.0, strategy="least_connections")
    given = {"id": "0" * 26, "state": "succeeded", "kind": "single", "routing": decision, "accepted_at": 10.0}
    return Result(**{**given, "ended_at": 11.5, "parts": made, "parts_total": parts, **fields})


@pytest.mark.parametrize(
    ("passed", "shown"), [(-3, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (7199, "1h"), (90_000, "1d")]
)
def test_age_has_one_unit(passed, shown):
    assert age(100, 100 + passed) == shown


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0, "$0"), (0.0000087, "$0.0000087"), (0.00012, "$0.00012"), (0.25, "$0.25"), (3.14159, "$3.14")],
)
def test_cost_shows_its_significant_digits(usd, shown):
    assert cost(usd) == shown


def test_seconds_are_milliseconds_below_one():
    assert [seconds(None), seconds(0.0061), seconds(2.06)] == ["-", "6 ms", "2.1 s"]


def test_summary_names_route_model_time_tokens_and_cost():
    printed = summary(a_result(simulated=True, usage=Usage(input_tokens=12, output_tokens=34), cost_usd=0.25))
    assert printed == "succeeded · simulated · route billing · model fast · 1.5 s · 12+34 tokens · $0.25"


def test_print_text_removes_control_characters_on_a_terminal(capsys, monkeypatch):
    assert printable(f"{ESCAPE}red\x07\x9b\x7f\tand\n") == "[31mred\tand\n"
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    print_text(f"{ESCAPE}red")
    assert screen.getvalue() == "[31mred\n"


def test_print_text_leaves_an_output_unchanged_in_a_pipe(capsys):
    print_text(f"{ESCAPE}red\n")
    assert capsys.readouterr().out == f"{ESCAPE}red\n"


def test_print_table_wraps_no_whole_column(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("job", "reason"), [("0" * 26, "many words that go on " * 3)], whole=("job",))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("0" * 26)
    assert len(lines) > 3
    assert all(len(line) <= 40 for line in lines)


def test_print_table_has_one_line_a_row_in_a_pipe(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(("a", "b"), [("x", "word " * 50), ("[red]y[/red]", f"two\nlines{ESCAPE}")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "[red]y[/red]" in lines[2]
    assert "two lines[31m" in lines[2]


def test_print_facts_continues_a_long_value_below_itself(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    print_facts([("route", "billing"), ("reason", "many words that need two lines")])
    assert capsys.readouterr().out.splitlines() == [
        "route   billing",
        "reason  many words that need",
        "        two lines",
    ]


def test_print_json_keeps_letters(capsys):
    print_json({"text": "Grüße"})
    out = capsys.readouterr().out
    assert json.loads(out) == {"text": "Grüße"}
    assert "Grüße" in out


def test_shown_parts_are_the_running_ones_of_many():
    assert len(shown_parts(a_result(parts=MOST_ROWS))) == MOST_ROWS
    shown = shown_parts(a_result(parts=1000))
    assert [part.index for part in shown] == [1, 3, 5, 7, 9, 11, 13, 15]


def test_exit_of_state_has_a_code_for_each_final_state():
    codes = {state: exit_of_state(state) for state in FINAL}
    assert codes == {
        "succeeded": Exit.OK, "failed": Exit.FAILED, "cancelled": Exit.STOPPED, "expired": Exit.STOPPED,
    }  # fmt: skip
    assert exit_of_state("running") == Exit.NOT_ENDED
    assert Failure("join_failed", "").exit == Exit.FAILED


def test_printable_keeps_text_of_both_directions_without_turning_it():
    assert printable("pay \u202eRAB\u202c \u2066x\u2069 \u200f\u05d0\u0628\n") == "pay RAB x \u05d0\u0628\n"
