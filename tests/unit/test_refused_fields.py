"""The field that a server refuses by name, in the words of public bug reports and of the servers' own code."""

from __future__ import annotations

import time

import pytest

from worker.models.faults import read_error
from worker.models.refused_fields import find_refused


def openai(message: str, code: str | None = None, param: str | None = None) -> dict[str, object]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


def anthropic(message: str) -> dict[str, object]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}


def gemini(message: str) -> dict[str, object]:
    details = [{"@type": "x.BadRequest", "fieldViolations": [{"field": "generation_config", "description": message}]}]
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}}


def extra(*fields: str) -> list[dict[str, object]]:
    return [
        {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra inputs are not permitted", "input": 3}
        for field in fields
    ]


USE_OTHER = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
BY_NAME = [
    # OpenAI, Azure
    (openai("Use max_completion_tokens", "unsupported_parameter", "max_tokens"), "max_tokens"),
    (openai(USE_OTHER, "unsupported_parameter", "max_tokens"), "max_tokens"),
    (openai(USE_OTHER), "max_tokens"),
    (openai("Unrecognized request argument supplied: max_completion_tokens"), "max_completion_tokens"),
    (openai("Unrecognized request arguments supplied: seed, stream_options"), "seed"),
    (
        openai(
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is"
            " supported.",
            "unsupported_value",
            "temperature",
        ),
        "temperature",
    ),
    (
        openai(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "unsupported_value",
            "messages[0].role",
        ),
        "system_role",
    ),
    (
        openai("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        "response_format",
    ),
    ({"error": {"code": "Invalid input", "status": 422, "message": "x", "details": extra("seed")}}, "seed"),
    # vLLM, Mistral and others on FastAPI
    (
        {
            "object": "error",
            "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'seed'), 'msg': 'Extra inputs'}]",
            "code": 400,
        },
        "seed",
    ),
    ({"detail": extra("store", "max_completion_tokens")}, "max_completion_tokens"),
    ({"object": "error", "message": {"detail": extra("seed")}, "type": "invalid_request_error"}, "seed"),
    (
        {
            "object": "error",
            "message": '{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"],"msg":"x"}]}',
            "type": "internal_error_proxy",
        },
        "stream_options",
    ),
    ({"object": "error", "message": "System role not supported", "type": "BadRequestError"}, "system_role"),
    # Groq, Cerebras, Fireworks, DeepSeek
    (openai("property 'seed' is unsupported"), "seed"),
    (openai("This model does not support response format `json_schema`."), "response_format"),
    (openai("'response_format.type' : value is not one of the allowed values ['text']"), "response_format"),
    ({"message": "body.seed: property 'body.seed' is unsupported", "code": "wrong_api_format"}, "seed"),
    (openai("Extra inputs are not permitted, field: 'seed', value: 3"), "seed"),
    (openai("This response_format type is unavailable now", "invalid_request_error"), "response_format"),
    # xAI, also behind LiteLLM; other gateways
    ({"code": "Client specified an invalid argument", "error": "Argument not supported on this model: stop"}, "stop"),
    ({"code": "x y", "error": "Model grok-4-latest does not support parameter topP."}, "top_p"),
    (
        openai(
            'litellm.BadRequestError: XaiException - {"code":"x","error":"Argument not supported on this model: stop"}'
        ),
        "stop",
    ),
    (openai("litellm.UnsupportedParamsError: openai does not support parameters: ['seed'], for model=x"), "seed"),
    ({"message": "Malformed input request: extraneous key [seed] is not permitted, please reformat"}, "seed"),
    ({"error": 'json: unknown field "seed"'}, "seed"),
    ({"error": "Failed to deserialize: unknown field `seed`, expected one of `model`, `messages`, `stop`"}, "seed"),
    (openai("Completions.create() got an unexpected keyword argument 'seed'"), "seed"),
    # Anthropic, Gemini
    (anthropic("`temperature` is deprecated for this model."), "temperature"),
    (anthropic("output_config: Extra inputs are not permitted"), "response_format"),
    ([gemini('Invalid JSON payload received. Unknown name "seed": Cannot find field.')], "seed"),
    (
        gemini("Invalid JSON payload received. Unknown name \"topP\" at 'generation_config': Cannot find field."),
        "top_p",
    ),
    (gemini("JSON mode is not enabled for models/gemma-3-27b-it"), "response_format"),
    (gemini("Developer instruction is not enabled for models/gemma-3-27b-it"), "system_role"),
]
NOT_BY_NAME = [
    openai("max_tokens is too large: 200000. This model supports at most 16384 completion tokens.", None, "max_tokens"),
    openai("Invalid 'temperature': decimal above maximum value.", "decimal_above_max_value", "temperature"),
    openai("temperature must be between 0 and 1", "invalid_value", "temperature"),
    openai(
        "Invalid schema for response_format 'answer': schema must be a JSON Schema of type \"object\"",
        None,
        "response_format",
    ),
    openai("invalid schema for response format: response_format/json_schema/a: minItems is not supported"),
    openai("property 'store' is unsupported, did you mean 'stop'?"),
    anthropic("max_tokens: 200000 > 8192, which is the maximum allowed number of output tokens for m"),
    openai("This model's maximum context length is 4096 tokens (4000 in the messages, 1000 in max_tokens)"),
    openai("Please write about parameters of temperature that are unknown here"),
    {"error": None},
    [],
    "seed",
]


@pytest.mark.parametrize(("body", "field"), BY_NAME)
def test_find_refused_reads_the_field_in_every_form(body, field):
    assert find_refused(body) == field


@pytest.mark.parametrize("body", NOT_BY_NAME)
def test_find_refused_takes_no_wrong_value_for_a_refused_field(body):
    assert find_refused(body) == ""


def test_read_error_keeps_the_refused_field_beside_the_message():
    error = read_error("m", 400, b'{"error":{"message":"Unknown parameter: \'seed\'","code":"unknown_parameter"}}', ())
    assert (error.code, error.refused) == ("bad_request", "seed")


@pytest.mark.parametrize("text", ["{" * 100_000, "unknown " * 50_000, "'" * 100_000, "a." * 50_000, '{"a":' * 20_000])
def test_find_refused_needs_little_time_for_hostile_messages(text):
    started = time.process_time()
    find_refused({"error": {"message": text, "code": text, "details": [text] * 50}})
    assert time.process_time() - started < 5
