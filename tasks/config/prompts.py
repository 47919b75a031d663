"""From the prompt of a job or a route to the prompt that the model gets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.config.config import Config
from tasks.contract.errors import BadInput, PromptError

#: The beginning of a prompt that is the name of a file instead of the text.
PREFIX = "file:"
#: The variables of templates. `title`, `index` (from 1) and `total` are those of the section or vote.
VARIABLES = frozenset({"metadata", "labels", "title", "index", "total", "kind", "route"})
#: Hexadecimal digits of a version.
VERSION_DIGITS = 12
#: Names that an error lists.
NAMED = 30


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt. `version`: the first 12 hexadecimal digits of the SHA-256 of the text before rendering."""

    text: str
    version: str


def render(config: Config, prompt: str, variables: Mapping[str, Any]) -> Prompt:
    """Render a prompt: fill in the template that ``file:NAME`` names; any other text stays as it is.

    `variables` are among `VARIABLES`; one that is missing is undefined.

    Raises:
        PromptError: if there is no such file, or if the template can't be filled in with these variables.
    """
    if not prompt.startswith(PREFIX):
        return Prompt(prompt, version_of(prompt))
    file = config.library.prompts.get(prompt.removeprefix(PREFIX))
    if file is None:
        # The job was accepted with it: this process has another configuration.
        raise PromptError(f"there is no prompt {prompt!r} in the configuration of this worker")
    return Prompt(file.template.render(variables), file.version)


def version_of(source: str) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of a text in UTF-8."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:VERSION_DIGITS]


def source_of(config: Config, prompt: str) -> str:
    """The text of a prompt before variables are filled in; "" for a missing file."""
    if not prompt.startswith(PREFIX):
        return prompt
    file = config.library.prompts.get(prompt.removeprefix(PREFIX))
    return file.source if file is not None else ""


def check_prompt(config: Config, prompt: str, *, at: str) -> None:
    """Check that the file exists where a prompt names one. `at` is the field of the error.

    Raises:
        BadInput: with the names that exist.
    """
    if not prompt.startswith(PREFIX) or prompt.removeprefix(PREFIX) in config.library.prompts:
        return
    known = [PREFIX + name for name in sorted(config.library.prompts)]
    more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
    raise BadInput(at, f"there is no prompt {prompt!r}", f"allowed: {', '.join(known[:NAMED]) or 'none'}{more}")


def check_prompts(job: Mapping[str, Any], config: Config, *, at: str = "") -> None:
    """As `check_prompt`, for all prompts in the fields of a job; `at` starts their fields."""
    for place, prompt in prompts_in(job):
        check_prompt(config, prompt, at=f"{at}.{place}" if at else place)


def prompts_in(job: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, str]]:
    """Find each prompt of a job with its place: its own, and those of items, votes, join, split and `each`."""
    for field, value in job.items():
        place = f"{at}{field}"
        if field == "prompt" or (at.endswith("_options.") and "prompt" in field):
            yield from _texts(place, value)
        elif field == "variety" and isinstance(value, Mapping):
            yield from _texts(f"{place}.prompts", value.get("prompts"))
        elif field in {"join_options", "split_options", "each"} and isinstance(value, Mapping):
            yield from prompts_in(value, f"{place}.")
        elif field == "items" and isinstance(value, list | tuple):
            for index, item in enumerate(value):
                if isinstance(item, Mapping):
                    yield from _texts(f"{place}[{index}].prompt", item.get("prompt"))


def _texts(place: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list | tuple):
        yield from ((f"{place}[{index}]", text) for index, text in enumerate(value) if isinstance(text, str))
