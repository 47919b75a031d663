"""``pointsman eval answers``: how well labelled answers are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ops.cli.arguments import AsJson
from ops.cli.exits import Exit
from ops.cli.render import note, print_json, print_table

#: Cases that are listed.
NAMED = 20


def answers(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled answers, JSON lines.")],
    *,
    most_wrong: Annotated[
        int, typer.Option("--most-wrong", min=0, help="Answers that may be read silently wrong.")
    ] = 0,
    as_json: AsJson = False,
) -> int:
    """Measure how votes, joins and graders read answers: right, abstained, or silently wrong.

    A line is such as `{"kind": "choice", "text": "I pick B.", "expected": "B", "options": {"answers": ["A", "B"]}}`;
    expected null means that the reader must abstain. Kinds: choice, flag, number, score, ranking, json, thoughts; the
    options are those of the joins majority, threshold, mean and ranked. The exit code is 1 if more are silently wrong
    than allowed. No model is asked.

        pointsman eval answers mine.jsonl
    """
    from ops.evaluate.answers import count_outcomes, read_answer_cases, read_cases

    read = read_cases(read_answer_cases(file))
    counts = count_outcomes(read)
    wrong = [one for one in read if one.outcome == "wrong"]
    others = [one for one in read if one.outcome == "abstained"]
    if as_json:
        print_json(
            {
                "cases": len(read),
                "kinds": counts,
                **{
                    name: [
                        {"id": one.case.id, "line": one.case.line, "expected": one.case.expected, "read": one.found}
                        for one in listed
                    ]
                    for name, listed in (("wrong", wrong), ("abstained", others))
                },
            }
        )
    else:
        columns = ("kind", "cases", "right", "abstained", "silently wrong")
        rows = [(kind, sum(of.values()), of["right"], of["abstained"], of["wrong"]) for kind, of in counts.items()]
        total = (len(read), len(read) - len(wrong) - len(others), len(others), len(wrong))
        print_table(columns, [tuple(map(str, row)) for row in [*rows, ("all", *total)]], right=columns[1:])
        for one in (wrong + others)[:NAMED]:
            note(f"line {one.case.line}: {one.outcome}: expected {one.case.expected!r}, read {one.found!r}")
    return Exit.FAILED if len(wrong) > most_wrong else Exit.OK
