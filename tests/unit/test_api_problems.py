"""The answer that clients get for each error."""

from __future__ import annotations

import inspect
import json

import pytest
from starlette.exceptions import HTTPException

from producer.api.problems import TITLES, ProblemDetails, problem_of
from producer.client import JobNotFound
from tasks.contract import errors
from tasks.contract.errors import AnswerCut, BadInput, ConfigError, PointsmanError, Unreachable


def test_problem_of_bad_input_has_field_and_remedy_in_both_forms():
    body = problem_of(BadInput("[3].model", "'gpt' is not known", "allowed: fast")).body

    assert (body["status"], body["field"], body["remedy"]) == (422, "[3].model", "allowed: fast")
    assert body["detail"] == "[3].model: 'gpt' is not known"
    assert body["error"] == {
        "message": "[3].model: 'gpt' is not known; allowed: fast",
        "type": "invalid_request_error",
        "param": "[3].model",
        "code": "bad_input",
    }


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (BadInput("text", "is empty"), 422, "bad_input"),
        (JobNotFound("x"), 404, "not_found"),
        (Unreachable("Redis does not answer"), 503, "unreachable"),
        (HTTPException(404), 404, "not_found"),
        (HTTPException(405, headers={"Allow": "GET"}), 405, "method_not_allowed"),
        (HTTPException(418), 418, "http_error"),
        (PointsmanError("Redis refused a command"), 500, "internal_error"),
        (ConfigError("pointsman.yaml:1: x"), 500, "internal_error"),
        (ValueError("a prompt"), 500, "internal_error"),
    ],
)
def test_problem_of_each_error_has_its_status_and_code(error, status, code):
    problem = problem_of(error)

    assert (problem.status, problem.code) == (status, code)
    assert problem.body["status"] == status
    assert problem.body["error"]["code"] == code


def test_problem_of_an_unexpected_error_hides_its_message():
    assert "secret" not in json.dumps(problem_of(RuntimeError("secret prompt")).body)


def test_problem_of_every_class_of_error_has_a_status():
    found = {
        name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert len(found) > 20
    for name, error_class in found.items():
        words = ["word"] * (len(inspect.signature(error_class).parameters) if error_class is BadInput else 2)
        more = {"bound": 8} if error_class is AnswerCut else {}
        assert problem_of(error_class(*words, **more)).status in {422, 500, 503}, name


def test_response_is_problem_json_that_is_not_stored():
    response = ProblemDetails(413, "too_large", "the body has more than 5 bytes").response()

    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert json.loads(bytes(response.body))["title"] == TITLES["too_large"]


def test_problem_of_unreachable_says_when_to_retry():
    assert int(problem_of(Unreachable("Redis does not answer")).headers["retry-after"]) < 120
