"""The schedules of a configuration as Celery beat runs them."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime
from typing import Any

import pytest

from producer.schedule import ZonedCrontab, beat_schedule
from tasks.loading.load import parse

CONFIG = """
models: {fast: {provider: simulated}}
routes: {all: {models: [fast]}}
default_route: all
schedules:
  nightly: {cron: "30 2 * * *", batch: jobs.jsonl, timezone: Europe/Berlin}
"""


def due(cron: str, zone: str, last_run: str, now: str) -> bool:
    schedule: Any = ZonedCrontab(cron, zone)
    schedule.nowfun = lambda: datetime.fromisoformat(now).replace(tzinfo=UTC)
    return bool(schedule.is_due(datetime.fromisoformat(last_run).replace(tzinfo=UTC))[0])


@pytest.mark.parametrize(
    ("zone", "now", "expected"),
    [
        ("UTC", "2026-01-11T02:29:50", False),
        ("UTC", "2026-01-11T02:30:01", True),
        ("Europe/Berlin", "2026-01-11T01:29:50", False),
        ("Europe/Berlin", "2026-01-11T01:30:01", True),
        ("America/New_York", "2026-01-11T06:30:01", False),
        ("America/New_York", "2026-01-11T07:30:01", True),
    ],
)
def test_schedule_is_due_by_the_clock_of_its_zone(zone, now, expected):
    last = {"UTC": "2026-01-10T02:30:00", "Europe/Berlin": "2026-01-10T01:30:00"}.get(zone, "2026-01-10T07:30:00")
    assert due("30 2 * * *", zone, last, now) is expected


def test_schedule_keeps_its_zone_in_the_file_of_beat():
    schedule = ZonedCrontab("30 2 * * *", "Europe/Berlin")
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    assert str(again.tz) == "Europe/Berlin"
    assert again.hour == {2}


def test_schedule_sends_its_name_and_its_tick_alone():
    entry = beat_schedule(parse(CONFIG))["nightly"]
    assert entry["task"] == "tasks.batch"
    assert entry["kwargs"]["schedule"] == "nightly"
    assert entry["kwargs"]["tick"]() % 60 == 0
    assert set(entry["kwargs"]) == {"schedule", "tick"}
    assert entry["schedule"].zone == "Europe/Berlin"
