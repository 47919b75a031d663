"""``pointsman schedule``: batches that a cron expression starts."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson
from ops.cli.commands import command, group
from ops.cli.environment import check_redis, load_config, open_ledger
from ops.cli.exits import Failure
from ops.cli.render import age, note, print_json, print_table

if TYPE_CHECKING:
    from tasks.config.config import Schedule
    from tasks.ledger.batches import Batch

app = typer.Typer(rich_markup_mode=None)

#: Days that are searched for the next run: the next 29th of February may be eight years away.
FAR = 8 * 366 + 1
#: Latest batches that are searched for the last one of a schedule.
RECENT = 200


async def schedules(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List the schedules, or run one now.

    pointsman schedule run nightly
    """
    if context.invoked_subcommand is None:
        await list_schedules(as_json=as_json)


async def list_schedules(*, as_json: AsJson = False) -> None:
    """List the schedules: when each runs next, and its last batch.

    pointsman schedule list
    """
    from tasks.contract.errors import PointsmanError

    config = load_config()
    last: dict[str, Batch] = {}
    remark = ""
    if config.schedules:
        try:
            last = await _last_batches()
        except PointsmanError as error:
            remark = f"the last batches are not known: {error}"
    now = datetime.now(UTC)
    runs = {name: next_run(schedule, now) for name, schedule in config.schedules.items()}
    entries: list[dict[str, Any]] = []
    for name, schedule in config.schedules.items():
        run = runs[name]
        batch = last.get(name)
        entries.append(
            {
                "name": name,
                "cron": schedule.cron,
                "timezone": schedule.timezone,
                "next_run": run.isoformat() if run else None,
                "file": str(config.folder / schedule.batch),
                "last_batch": batch.id if batch else None,
                "error": (batch.error or None) if batch else None,
            }
        )
    if as_json:
        print_json(entries)
        return
    rows = [
        (
            entry["name"],
            entry["cron"],
            *_when(runs[entry["name"]], now),
            entry["last_batch"] or "-",
        )
        for entry in entries
    ]
    if rows:
        head = ("schedule", "cron", "next run", "in", "last batch")
        print_table(head, rows, whole=("schedule", "cron", "next run", "last batch"), right=("in",))
    else:
        note("the configuration has no schedules")
    for entry in entries:
        if entry["error"]:
            note(f"{entry['name']}: its last batch stopped: {entry['error']}")
    if remark:
        note(remark)


async def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A schedule.")], *, as_json: AsJson = False
) -> None:
    """Submit a schedule's batch now; print the batch's id.

    A worker reads the file. The batch exists as soon as a worker has taken it.

        pointsman schedule run nightly
    """
    import asyncio

    from tasks.batch import scheduled_id
    from tasks.queue.address import redis_url

    config = load_config()
    if name not in config.schedules:
        known = ", ".join(sorted(config.schedules)) or "none; the configuration has no schedules"
        raise Failure("not_found", f"no schedule {name!r}", field="name", remedy=f"configured: {known}")
    url = redis_url()
    await check_redis(url)
    tick = int(time.time())
    batch_id = scheduled_id(name, tick, 0)
    await asyncio.to_thread(_publish, url, name, tick, f"{batch_id}.batch")
    if as_json:
        print_json({"schedule": name, "batch": batch_id})
    else:
        print(batch_id)
        note(f"  follow it with: pointsman batch status {batch_id}")


def _publish(url: str, schedule: str, tick: int, task_id: str) -> None:
    from tasks.queue.app import make_app

    with make_app("pointsman-cli", url) as app:
        app.send_task("tasks.batch", kwargs={"schedule": schedule, "tick": tick}, task_id=task_id, ignore_result=True)


async def _last_batches() -> dict[str, Batch]:
    from tasks.ledger.batches import Batches

    last: dict[str, Batch] = {}
    async with open_ledger() as ledger:
        store = Batches(ledger.store)
        for batch_id in await store.recent(RECENT):
            batch = await store.read(batch_id)
            if batch is not None and batch.schedule:
                last.setdefault(batch.schedule, batch)
    return last


def next_run(schedule: Schedule, after: datetime) -> datetime | None:
    """Return when the schedule is due next after `after`, in its own zone; None if it is not due within 8 years.

    As Celery reads a cron expression: day of month and day of week must both match. A minute that a change to summer
    time skips is not due.
    """
    from zoneinfo import ZoneInfo

    from celery.schedules import crontab

    from tasks.config.cron import read_cron

    cron: Any = crontab.from_string(read_cron(schedule.cron))  # its type stubs lack the parsed fields
    zone = ZoneInfo(schedule.timezone)
    start = after.astimezone(zone)
    for days in range(FAR):
        day = start.date() + timedelta(days=days)
        if (
            day.month not in cron.month_of_year
            or day.day not in cron.day_of_month
            or day.isoweekday() % 7 not in cron.day_of_week
        ):
            continue
        for hour in sorted(cron.hour):
            for minute in sorted(cron.minute):
                due = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                # In UTC: Python compares two times of one zone by their clocks, and ignores the change of the hour.
                real = due.astimezone(UTC)
                if real > after and real.astimezone(zone).replace(tzinfo=None) == due.replace(tzinfo=None):
                    return due
    return None


def _when(run: datetime | None, now: datetime) -> tuple[str, str]:
    """Return the next run by the clock of its zone, and the time until then."""
    if run is None:
        return "never", "-"
    return f"{run:%Y-%m-%d %H:%M %Z}", age(now.timestamp(), run.timestamp())


group(app, schedules)
command(app, list_schedules, "list")
command(app, run)
