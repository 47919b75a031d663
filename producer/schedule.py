"""Schedules: ``celery -A producer.schedule beat`` sends a `tasks.batch` for each tick of each schedule.

The message names its tick, and the ids of a batch's jobs follow from schedule, tick and line: two beats, or one tick
sent twice, make the same jobs once.
"""

from __future__ import annotations

import os
import time
from typing import Any
from zoneinfo import ZoneInfo

from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from tasks.config.config import Config
from tasks.config.cron import read_cron
from tasks.loading.load import load
from tasks.queue.address import redis_url
from tasks.queue.app import ROUTE, make_app

#: Seconds between two checks of the schedule: a cron has minutes, so this is soon enough after a clock jump.
BEAT_INTERVAL = 20


def this_tick() -> int:
    """The minute that beat fires for, as Unix seconds."""
    return int(time.time()) // 60 * 60


def beat_schedule(config: Config) -> dict[str, dict[str, Any]]:
    """The schedules of a configuration in the form of Celery beat."""
    return {
        name: {
            "task": "tasks.batch",
            "schedule": ZonedCrontab(schedule.cron, schedule.timezone),
            "kwargs": {"schedule": name, "tick": BeatLazyFunc(this_tick)},
            "options": {"queue": ROUTE, "ignore_result": True},
        }
        for name, schedule in config.schedules.items()
    }


class ZonedCrontab(crontab):
    """A crontab in a time zone of its own, where Celery's uses the application's."""

    def __init__(self, cron: str, zone: str) -> None:
        minute, hour, day_of_month, month_of_year, day_of_week = read_cron(cron).split()
        super().__init__(minute, hour, day_of_week, day_of_month, month_of_year)
        self.cron, self.zone = cron, zone

    @property
    def tz(self) -> ZoneInfo:  # type: ignore[override]
        return ZoneInfo(self.zone)

    def __reduce__(self) -> Any:
        # Beat keeps schedules in a file.
        return ZonedCrontab, (self.cron, self.zone)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZonedCrontab) and (self.cron, self.zone) == (other.cron, other.zone)

    def __hash__(self) -> int:
        return hash((self.cron, self.zone))


#: The name by which beat's files of earlier versions make one.
zoned = ZonedCrontab


def _make() -> Celery:
    app = make_app("pointsman-schedule", redis_url())
    app.conf.beat_max_loop_interval = BEAT_INTERVAL
    path = os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml"
    app.conf.beat_schedule = beat_schedule(load(path))
    return app


def __getattr__(name: str) -> Any:
    """Make ``app`` for ``celery -A producer.schedule`` when beat reads it, since that needs the configuration."""
    if name in {"app", "celery"}:
        globals()["app"] = made = _make()
        return made
    raise AttributeError(name)
