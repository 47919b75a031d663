"""Cron expressions: what crontab(5) allows is read, and what it doesn't is refused with its field."""

from __future__ import annotations

import pytest

from tasks.config.config import Schedule
from tasks.config.cron import MACROS, read_cron


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("30 2 * * *", "30 2 * * *"),
        ("0 9 * * 7", "0 9 * * 0"),
        ("0 9 * * 5-7", "0 9 * * 0,5,6"),
        ("0 9 * * 7-2", "0 9 * * 0,1,2"),
        ("0 9 * * 7-7", "0 9 * * 0"),
        ("0 9 * * 0-7", "0 9 * * *"),
        ("0 9 * * 1-7/2", "0 9 * * 0,1,3,5"),
        ("0 9 * * sun", "0 9 * * 0"),
        ("0 9 * * SUN-TUE", "0 9 * * 0,1,2"),
        ("0 9 * * Fri-Monday", "0 9 * * 0,1,5,6"),
        ("0 9 * * mon,7", "0 9 * * 0,1"),
        ("0 9 1 jan,Mar-may *", "0 9 1 1,3,4,5 *"),
        ("*/20 22-2 * * *", "0,20,40 0,1,2,22,23 * * *"),
        ("0-59/30 */12 1-31 * *", "0,30 0,12 * * *"),
        ("  @Weekly ", "0 0 * * 0"),
    ],
)
def test_read_cron_writes_numbers_alone(text, read):
    assert read_cron(text) == read


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("* * * *", "needs five fields"),
        ("0 0 9 * * *", "needs five fields"),
        ("@often", "'@often' is not known; allowed: @annually"),
        ("60 * * * *", "minute: '60' is not allowed; 0 to 59"),
        ("0 24 * * *", "hour: '24'"),
        ("0 0 0 * *", "day-of-month: '0' is not allowed; 1 to 31"),
        ("0 9 * mon *", "month: 'mon' is not allowed; 1 to 12, or jan to dec"),
        ("0 9 * * 8", "day-of-week: '8' is not allowed; 0 to 6, or sun to sat (7 is sun)"),
        ("0 9 * * sunshine", "day-of-week: 'sunshine'"),
        ("mon * * * *", "minute: 'mon'"),
        ("*/0 * * * *", "minute: a step of 0"),
        ("5/15 * * * *", "minute: '5/15' has a step without a range; write 5-59/15"),
        ("1,,2 * * * *", "minute: '' is none of"),
        ("-1 * * * *", "minute: '-1' is none of"),
        ("1.5 * * * *", "minute: '1.5' is none of"),
        ("٣ * * * *", "minute: '٣' is none of"),
        ("0 9 * * 1#2", "day-of-week: '1#2' is none of"),
        ("0 9 31 2 *", "never occurs"),
        ("9" * 5000 + " * * * *", "minute: "),
    ],
)
def test_schedule_refuses_other_expressions_and_names_the_field(text, problem):
    with pytest.raises(ValueError, match=r"is not a cron|five fields") as caught:
        Schedule(cron=text, batch="b.jsonl")
    assert problem in str(caught.value)


def test_read_cron_of_every_macro_is_a_schedule():
    for name in MACROS:
        assert Schedule(cron=name, batch="b.jsonl").cron == name
