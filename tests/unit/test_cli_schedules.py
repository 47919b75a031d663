"""When a schedule runs next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.cli.cmd_schedule import next_run
from tasks.config.config import Schedule


def due(cron: str, after: str, timezone: str = "UTC") -> str | None:
    schedule = Schedule(cron=cron, batch=Path("b.jsonl"), timezone=timezone)
    run = next_run(schedule, datetime.fromisoformat(after).replace(tzinfo=UTC))
    return None if run is None else run.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-01T02:29:59", "2026-03-01 02:30"),
        ("30 2 * * *", "2026-03-01T02:30:00", "2026-03-02 02:30"),
        ("*/15 * * * *", "2026-03-01T23:50:00", "2026-03-02 00:00"),
        ("0 9 * * mon-fri", "2026-03-06T10:00:00", "2026-03-09 09:00"),
        ("0 9 * * 0", "2026-03-06T10:00:00", "2026-03-08 09:00"),
        ("0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29 00:00"),
        ("0 0 29 2 mon", "2026-03-01T00:00:00", None),
    ],
)
def test_next_run_is_the_first_match_after_now(cron, after, expected):
    assert due(cron, after) == expected


def test_next_run_follows_the_clock_of_its_zone():
    assert due("30 2 * * *", "2026-01-10T12:00:00", "Europe/Berlin") == "2026-01-11 01:30"
    assert due("30 2 * * *", "2026-07-10T12:00:00", "Europe/Berlin") == "2026-07-11 00:30"


def test_next_run_skips_a_minute_that_summer_time_leaves_out():
    # 2026-03-29: the clock goes from 02:00 to 03:00.
    assert due("30 2 * * *", "2026-03-28T12:00:00", "Europe/Berlin") == "2026-03-30 00:30"
