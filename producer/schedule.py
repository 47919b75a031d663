"""Schedules: ``celery -A producer.schedule beat`` sends a `tasks.batch` for each tick of each schedule.

The message names its tick, and the ids of a batch's jobs follow from schedule, tick and line: two beats, or one tick
sent twice, make the same jobs once.
"""

from __future__ import annotations

import os
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from celery import Celery
from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from tasks.config import Config, Schedule, load
from tasks.queue.address import redis_url
from tasks.queue.app import ROUTE, make_app

__all__ = ["beat_schedule", "next_run", "this_tick"]

#: Seconds between two looks of beat at its schedule: a cron has minutes, so this is soon enough after a clock jump.
BEAT_INTERVAL = 20


def this_tick() -> int:
    """The minute that beat fires for, as Unix seconds."""
    return int(time.time()) // 60 * 60


def beat_schedule(config: Config) -> dict[str, dict[str, Any]]:
    """The schedules of a configuration as Celery beat takes them."""
    return {
        name: {
            "task": "tasks.batch",
            "schedule": _crontab(schedule),
            "kwargs": {"schedule": name, "tick": BeatLazyFunc(this_tick)},
            "options": {"queue": ROUTE, "ignore_result": True},
        }
        for name, schedule in config.schedules.items()
    }


def next_run(schedule: Schedule) -> datetime:
    """When a schedule fires next, in its own time zone."""
    zone = ZoneInfo(schedule.timezone)
    now = datetime.now(zone)
    return now + _crontab(schedule).remaining_estimate(now)


def _crontab(schedule: Schedule) -> crontab:
    zone = ZoneInfo(schedule.timezone)
    found: crontab = crontab.from_string(schedule.cron)
    found.nowfun = lambda: datetime.now(zone)
    return found


def _make() -> Celery:
    app = make_app("pointsman-schedule", redis_url())
    app.conf.beat_max_loop_interval = BEAT_INTERVAL
    path = os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml"
    app.conf.beat_schedule = beat_schedule(load(path))
    return app


def __getattr__(name: str) -> Any:
    """``app``, for ``celery -A producer.schedule``: made when beat asks for it, since it needs the configuration."""
    if name in {"app", "celery"}:
        globals()["app"] = made = _make()
        return made
    raise AttributeError(name)
