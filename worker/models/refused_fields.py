"""The field of a request that a server refuses by its name, in all the forms in which servers say so.

OpenAI and Azure: a code word and `param`. FastAPI (vLLM, Mistral, Azure's gateway): `loc` in a list of details, which
may stand as text in a message. Google: ``Unknown name "seed"``. Others: a sentence. Sentences are searched by patterns
in which the field's name stands at a fixed place, since a message may quote the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from worker.models.json_body import read_json

#: Our name of a field, by all the names that servers have for it, in lower case and without separators.
_FIELDS: Mapping[str, str] = {
    "temperature": "temperature",
    "topp": "top_p",
    "maxtokens": "max_tokens",
    "maxcompletiontokens": "max_completion_tokens",
    "maxoutputtokens": "max_tokens",
    "seed": "seed",
    "randomseed": "seed",
    "stop": "stop",
    "stopsequences": "stop",
    "streamoptions": "stream_options",
    "responseformat": "response_format",
    "jsonschema": "response_format",
    "jsonmode": "response_format",
    "jsonobject": "response_format",
    "structuredoutput": "response_format",
    "structuredoutputs": "response_format",
    "outputformat": "response_format",
    "outputconfig": "response_format",
    "responsejsonschema": "response_format",
    "responseschema": "response_format",
    "responsemimetype": "response_format",
    "guidedjson": "response_format",
    "toolchoice": "response_format",
    "tools": "response_format",
    "role": "system_role",
    "systemrole": "system_role",
    "systemmessage": "system_role",
    "systemmessages": "system_role",
    "systemprompt": "system_role",
    "systeminstruction": "system_role",
    "developerinstruction": "system_role",
    "developerrole": "system_role",
    "developermessage": "system_role",
}
#: Steps of a path that say nothing about the field.
_OUTER = frozenset({"body", "request", "config", "generationconfig", "parameters", "params"})
_CODES = frozenset({
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "unsupported_field", "unknown_field",
    "unrecognized_parameter", "unexpected_parameter", "parameter_not_supported", "unsupportedparameter",
    "unsupportedvalue", "extra_forbidden", "value_error.extra", "extraforbidden", "unsupported_param",
    "unsupportedparamserror", "unrecognized_argument", "invalid_parameter_name",
})  # fmt: skip
#: The name of a field, perhaps at the end of a path, or in two words.
_NAME = (
    r"['\"`*\[({\\ ]{0,6}((?:[a-z_]{1,30}[.\[\]\d]{1,4}){0,3}[a-z][a-z_]{1,30}"
    r"(?: (?:format|schema|mode|outputs?|role|instruction|messages?|prompt))?)\b"
)
_NOT = (
    r"(?:not (?:be )?(?:supported|permitted|allowed|available|enabled|accepted)"
    r"|unsupported|deprecated|unavailable|no longer supported)"
)
_KIND = (
    r"(?:request |input |api |body |query |keyword )?"
    r"(?:parameters?|params?|arguments?|args?|fields?|propert(?:y|ies)|keys?|names?|inputs?)"
)
_UNKNOWN = r"(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extraneous|unsupported value:?)"
_REFUSES = r"(?:does|do)(?: not|n't) (?:support|accept|allow|take|permit)"
_END = r"['\"`\])]{0,3}"
_SENTENCES = tuple(
    re.compile(pattern)
    for pattern in (
        # Unsupported parameter: 'x' · Unrecognized request argument supplied: x · unknown field `x` · Unknown name "x"
        rf"\b{_UNKNOWN} (?:{_KIND})?(?: supplied| provided)?:?{_NAME}",
        # property 'x' is unsupported · `x` is deprecated for this model · x: Extra inputs are not permitted
        rf"{_NAME}{_END}:? (?:type )?(?:is|are|was|has been)? ?(?:currently )?{_NOT}",
        rf"{_NAME}{_END}:? extra inputs? (?:are|is) not permitted",
        rf"extra inputs? (?:are|is) not permitted, field:{_NAME}",
        # Model m does not support parameter x. · does not support parameters: ['x'] · does not support response format
        rf"{_REFUSES}(?: the)?(?: {_KIND})?:?{_NAME}",
        # Argument not supported on this model: x
        rf"{_KIND} {_NOT}(?: (?:on|by|for|with|in) (?:this|the) (?:model|endpoint|api|deployment))?:{_NAME}",
        # 'response_format.type' : value is not one of the allowed values
        rf"{_NAME}{_END} ?: ?value is not one of the allowed",
        rf"['\"]loc['\"]: ?[\[(]['\"]body['\"], ?{_NAME}",
        # This response_format type is unavailable now
        rf"\bthis {_NAME} type is",
    )
)
_USE_OTHER = re.compile(r"use ['\"`]?max_(completion_)?tokens['\"`]? instead|use ['\"`]?max_completion_tokens")
_IS_REFUSAL = re.compile(rf"{_NOT}|unknown|unrecogni[sz]ed|unexpected|extraneous|does(?: not|n't) (?:support|accept)")
#: Values of a field that are refused, not the field: a bound above the model's, a schema that is wrong.
_IS_VALUE = re.compile(
    r"invalid schema|too (?:large|long|many|high|big)|at most|less than|greater than|must be|maximum"
)
#: Objects of a body that are looked at, and characters of a message.
_MOST_OBJECTS = 50
_MOST_TEXT = 2000


def find_refused(data: Any) -> str:
    """Our name of the field that an error's body refuses by name; "" where it refuses none.

    ``max_completion_tokens`` differs from ``max_tokens``; ``response_format`` is any way to request a form of
    the answer, ``system_role`` the role of system messages.
    """
    for error in _walk(data):
        texts = [value[:_MOST_TEXT].lower() for value in error.values() if isinstance(value, str)]
        field = next(filter(None, (_find_field(path) for path in _paths(error))), "")
        refuses = any(text in _CODES for text in texts) or any(map(_refuses, texts))
        if field and refuses:
            return field
        found = next(filter(None, map(_search, texts)), "")
        if found:
            return found
    return ""


def _refuses(text: str) -> bool:
    return _USE_OTHER.search(text) is not None or (
        _IS_REFUSAL.search(text) is not None and _IS_VALUE.search(text) is None
    )


def _search(text: str) -> str:
    if " " not in text:
        return ""
    if _IS_VALUE.search(text) is None:
        for sentence in _SENTENCES:
            for match in sentence.finditer(text):
                if field := _find_field(match[1]):
                    return field
    other = _USE_OTHER.search(text)
    return "" if other is None else "max_completion_tokens" if "max_tokens" in other[0] else "max_tokens"


def _find_field(path: str) -> str:
    """Our name of the field at a path such as ``body.seed``, ``messages[0].role``, ``generation_config.topP``."""
    steps = [re.sub(r"[\W_]", "", step.lower()) for step in re.split(r"[.\[\]]+", path)]
    steps = [step for step in steps if step and step not in _OUTER]
    if steps and steps[0] == "messages":
        return "system_role" if steps[-1] == "role" else ""
    return _FIELDS.get(steps[0], "") if steps else ""


def _paths(error: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(loc := error.get("loc"), list | tuple):
        yield ".".join(map(str, loc))
    for name in ("param", "field", "parameter"):
        if isinstance(path := error.get(name), str):
            yield path


def _walk(data: Any) -> Iterator[Mapping[str, Any]]:
    """Each object in a body, the outer one first; JSON that stands as text is read as such, once."""
    left, seen = [(data, True)], 0
    while left and seen < _MOST_OBJECTS:
        value, may_quote = left.pop(0)
        if isinstance(value, Mapping):
            seen += 1
            yield value
            left += [(inner, may_quote) for inner in list(value.values())[:20]]
        elif isinstance(value, list):
            left += [(inner, may_quote) for inner in value[:20]]
        elif isinstance(value, str) and may_quote and "{" in value:
            text = value[value.index("{") : value.rfind("}") + 1]
            try:
                left.append((read_json(text), False))
            except ValueError:
                continue
