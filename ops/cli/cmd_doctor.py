"""``pointsman doctor``: check the installation and the running fleet. The checks are in `checks.py`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from ops.cli.arguments import AsJson
from ops.cli.checks import (
    CheckResult,
    check_config,
    check_embedded,
    check_extras,
    check_keys,
    check_port,
    check_python,
    check_server,
    check_state_dir,
    check_workers_of,
)

if TYPE_CHECKING:
    from ops.up.up_file import Running
    from tasks.config.config import Config

__all__ = ["doctor"]


async def doctor(*, as_json: AsJson = False) -> int:
    """Report what is missing, and how to mend it.

    Checks this machine, the configuration, keys, Redis and the workers. The exit code is 1 if anything is marked fail;
    what is marked warn works, but not as you may expect.

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


async def _check_fleet(config: Config | None, up: Running | None) -> list[CheckResult]:
    import asyncio
    import os

    from ops.cli.environment import check_redis
    from ops.cli.workers import find_workers
    from tasks.contract.errors import PointsmanError
    from tasks.queue.address import hide_password, redis_url

    try:
        url = redis_url()
        await check_redis(url)
        figures = await _ask_server(url)
    except PointsmanError as error:
        if up is None and "POINTSMAN_REDIS_URL" not in os.environ and "POINTSMAN_REDIS_URL_FILE" not in os.environ:
            # No setting says that a server should run.
            return [CheckResult("warn", "redis", "nothing runs yet", "start everything with `pointsman up`")]
        return [CheckResult("fail", "redis", str(error), "check that it runs, and POINTSMAN_REDIS_URL")]
    found = check_server(hide_password(url), figures)
    if config is not None:
        workers = await asyncio.to_thread(find_workers, url)
        consumed = {queue for worker in workers for queue in worker.queues}
        found += check_workers_of(tuple(config.models), frozenset(consumed))
    return found


async def _ask_server(url: str) -> dict[str, str]:
    """Return the server's figures, and the settings that may be read (a hosted server may refuse)."""
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

    from tasks.contract.errors import Unreachable

    async with Redis.from_url(url, decode_responses=True, socket_timeout=5) as client:
        try:
            figures = {name: str(value) for name, value in (await client.info("everything")).items()}
            for name in ("maxmemory-policy", "appendonly"):
                try:
                    figures[name] = str((await client.config_get(name))[name])
                except (RedisError, KeyError):
                    figures[name] = ""
        except RedisError as error:
            raise Unreachable(f"Redis does not report its figures: {error}") from None
    return figures


def _print(findings: list[CheckResult]) -> None:
    from ops.cli.render import note, print_table

    print_table(
        ("", "checked", "found"),
        [(finding.level, finding.subject, finding.text) for finding in findings],
        whole=("", "checked"),
    )
    wrong = [finding for finding in findings if finding.level != "ok"]
    if not wrong:
        note("nothing is missing")
        return
    print()
    for remedy in dict.fromkeys((finding.subject, finding.remedy) for finding in wrong if finding.remedy):
        print(f"{remedy[0]}: {remedy[1]}")
