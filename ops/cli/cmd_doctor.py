"""``pointsman doctor``: what is missing, and how to mend it. The machine's part is in `ops.cli.checks`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ops.cli.arguments import AsJson
from ops.cli.checks import (
    Finding,
    check_config,
    check_embedded,
    check_extras,
    check_keys,
    check_port,
    check_python,
    check_state_dir,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ops.cli.environment import Running
    from tasks.config.config import Config

__all__ = ["doctor", "judge_server", "judge_workers"]


async def doctor(*, as_json: AsJson = False) -> int:
    """Say what is missing, and how to mend it.

    Looks at this machine, the configuration, keys, Redis and the workers. The exit code is 1 if anything is marked
    fail; what is marked warn works, but not as you may expect.

        pointsman doctor --config pointsman.yaml
    """
    from ops.cli.environment import config_path, running_up
    from ops.cli.exits import Exit
    from ops.cli.render import print_json
    from tasks.queue.address import state_dir

    up = running_up()
    config, findings = check_config(config_path())
    findings = [check_python(), *findings]
    if config is not None:
        findings += check_keys(config)
    findings += [
        check_embedded(),
        *check_extras(config),
        check_state_dir(state_dir()),
        check_port(8080, "HTTP", up),
        check_port(5555, "Flower", up),
        *await _check_fleet(config, up),
    ]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return Exit.FAILED if any(finding.level == "fail" for finding in findings) else Exit.OK


async def _check_fleet(config: Config | None, up: Running | None) -> list[Finding]:
    import asyncio
    import os

    from ops.cli.environment import check_redis, hide_password
    from ops.cli.workers import find_workers
    from tasks.contract.errors import PointsmanError
    from tasks.queue.address import redis_url

    try:
        url = redis_url()
        await check_redis(url)
        figures = await _ask_server(url)
    except PointsmanError as error:
        if up is None and "POINTSMAN_REDIS_URL" not in os.environ and "POINTSMAN_REDIS_URL_FILE" not in os.environ:
            # Nobody said that something should run.
            return [Finding("warn", "redis", "nothing runs yet", "start everything with `pointsman up`")]
        return [Finding("fail", "redis", str(error), "check that it runs, and POINTSMAN_REDIS_URL")]
    found = judge_server(hide_password(url), figures)
    if config is not None:
        workers = await asyncio.to_thread(find_workers, url)
        consumed = {queue for worker in workers for queue in worker.queues}
        found += judge_workers(tuple(config.models), frozenset(consumed))
    return found


async def _ask_server(url: str) -> dict[str, str]:
    """The server's figures; of its settings those that it lets us read (a hosted one may not)."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from tasks.contract.errors import Unreachable

    async with Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
        try:
            told = {name: str(value) for name, value in (await client.info("everything")).items()}
            for name in ("maxmemory-policy", "appendonly"):
                try:
                    told[name] = str((await client.config_get(name))[name])
                except (RedisError, KeyError):
                    told[name] = ""
        except RedisError as error:
            raise Unreachable(f"Redis does not say how it is: {error}") from None
    return told


def judge_server(where: str, figures: Mapping[str, str]) -> list[Finding]:
    """What a server's INFO and settings mean for accepted jobs."""
    ours = figures.get("redis_version", "0")
    name = f"Valkey {figures['valkey_version']}" if "valkey_version" in figures else f"Redis {ours}"
    if int(ours.split(".")[0]) < 7:
        return [Finding("fail", "redis", f"{name} at {where} is too old", "use Redis 7 or Valkey 7.2 or later")]
    found = [Finding("ok", "redis", f"{name} at {where}")]
    policy = figures.get("maxmemory-policy") or figures.get("maxmemory_policy", "")
    bounded = figures.get("maxmemory", "0") != "0"
    remedy = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    if policy == "noeviction":
        found.append(Finding("ok", "redis memory", "noeviction"))
    elif bounded:
        found.append(Finding("fail", "redis memory", f"{policy} throws accepted jobs away when memory is full", remedy))
    else:
        found.append(
            Finding("warn", "redis memory", f"{policy} would throw jobs away, were the memory bounded", remedy)
        )
    appending = figures.get("appendonly") or ("yes" if figures.get("aof_enabled") == "1" else "no")
    if appending == "yes":
        found.append(Finding("ok", "redis durability", "appendonly"))
    else:
        remedy = "CONFIG SET appendonly yes, and in its configuration file"
        found.append(
            Finding("warn", "redis durability", "without appendonly, a crash of it loses accepted jobs", remedy)
        )
    return found


def judge_workers(models: tuple[str, ...], consumed: frozenset[str]) -> list[Finding]:
    """Whether somebody takes from each queue that a job needs."""
    from tasks.queue.app import JOIN, ROUTE, model_queue

    found: list[Finding] = []
    for queues, what in (
        ((ROUTE, JOIN), "routing and joining"),
        *(((model_queue(name),), f"model {name}") for name in models),
    ):
        missing = [queue for queue in queues if queue not in consumed]
        if missing:
            remedy = f"`pointsman up`, or `celery -A worker worker -Q {','.join(missing)}`"
            found.append(Finding("fail", "worker", f"no worker for {what}: its jobs wait", remedy))
        else:
            found.append(Finding("ok", "worker", what))
    return found


def _print(findings: list[Finding]) -> None:
    from ops.cli.render import note, print_table

    print_table(
        ("", "looked at", "found"),
        [(finding.level, finding.subject, finding.text) for finding in findings],
        whole=("", "looked at"),
    )
    wrong = [finding for finding in findings if finding.level != "ok"]
    if not wrong:
        note("nothing is missing")
        return
    print()
    for remedy in dict.fromkeys((finding.subject, finding.remedy) for finding in wrong if finding.remedy):
        print(f"{remedy[0]}: {remedy[1]}")
