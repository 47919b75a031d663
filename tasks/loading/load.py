"""Load ``pointsman.yaml``: read the file, check all of it, and report every problem with file, line and field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.config.config import Config, Limits, Schedule
from tasks.config.dialects import Dialect
from tasks.config.library import PROMPTS, Source
from tasks.config.models import Breaker, Hedge, KeyLimits, Model, Price, Profile
from tasks.config.routes import Classification, ModelChoice, Route, Thresholds
from tasks.config.simulation import Simulation
from tasks.contract.encoding import read_text_file
from tasks.contract.errors import ConfigError
from tasks.contract.validation import Loc
from tasks.loading.check_config import check_names, check_scores
from tasks.loading.located import read_problems, read_yaml


def load(path: Path | str) -> Config:
    """Read and check a file.

    Raises:
        ConfigError: with all problems of the file, a line each.
    """
    path = Path(path)
    try:
        text = read_text_file(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; name one with --config or POINTSMAN_CONFIG, or start from pointsman.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read: {error}") from None
    return parse(text, source=str(path), folder=path.resolve().parent)


def parse(text: str, *, source: str = "<configuration>", folder: Path = Path()) -> Config:
    """Check the text of a configuration; `source` starts each line of the error."""
    document = read_yaml(text, source=source, needs="models, routes and default_route")
    data = document.data
    problems = list(document.duplicates)
    if "folder" in data:
        problems.append((("folder",), f"is not a field here; allowed: {_fields_at(())}"))
    config = None
    try:
        config = Config.model_validate({**data, "folder": folder})
    except ValidationError as error:
        problems += read_problems(error, _fields_at)
    problems += [problem for problem in check_names(data) if problem not in problems]
    if config is not None and not problems:
        problems += check_scores(config)
    has_library = config is not None and (config.workflows or config.prompts or (config.folder / PROMPTS).is_dir())
    if config is not None and not problems and has_library:
        # Templates are slow to import.
        from tasks.loading.load_workflows import load_library  # noqa: PLC0415

        config, problems = load_library(config)
    if config is None or problems:
        raise ConfigError(document.format_problems(problems, root="configuration"))
    return config


def _fields_at(loc: Loc) -> str:
    """The fields of the section at `loc`."""
    table: Mapping[str, type[BaseModel]] = {
        "models": Model, "routes": Route, "schedules": Schedule, "limits": Limits,
        "price": Price, "profile": Profile, "simulation": Simulation, "breaker": Breaker, "hedge": Hedge,
        "keys": KeyLimits, "classifier": Classification, "thresholds": Thresholds, "llm": ModelChoice,
        "workflows": Source, "dialect": Dialect,
    }  # fmt: skip
    # The second step is a name of the operator's, such as a route called "price".
    steps = [str(step) for place, step in enumerate(loc) if place != 1 or loc[0] == "classifier"]
    section = next((table[step] for step in reversed(steps) if step in table), Config)
    return ", ".join(name for name in section.model_fields if name != "folder")


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pointsman configuration"} | schema
