"""Votes whose answers have a form, by real workers over HTTP: asked for in a schema, or read from free text."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web

from tests.harness import DEADLINE, fleet
from tests.scripted import chat_completion, serve_chat

CITIES = ["Berlin", "Paris", "Rome"]
ANSWERS = {
    "yes": '{"reasoning": "No? But the link is fake.", "answer": "yes"}',
    "7": '{"reasoning": null, "answer": 7}',
}


class Server:
    """Answers every model by `say(schema or None)`; `refuses` is a field that it refuses by name."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.say: Any = lambda _: "yes"
        self.refuses = ""

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        if self.refuses in body:
            error = {"message": "no", "param": self.refuses, "code": "unsupported_parameter"}
            return web.json_response({"error": error}, status=400)
        form = body.get("response_format", {}).get("json_schema", {}).get("schema")
        return web.json_response(chat_completion(self.say(form), (10, 10)))


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    server = Server()
    with ExitStack() as stack:
        url = stack.enter_context(serve_chat(server.complete))
        models = {
            "asked": {"base_url": url, "capacity": 4},
            "plain": {"base_url": url, "capacity": 4, "dialect": {"response_format": "none"}},
            "picky": {"base_url": url, "capacity": 4},
        }
        routes = {name: {"models": [name]} for name in models}
        folder = tmp_path_factory.mktemp("fleet")
        running = stack.enter_context(fleet(folder, models=models, simulations={"none": {}}, routes=routes))
        running.start("route,join," + ",".join(f"model.{name}" for name in models), 8)
        yield running, server


@pytest.fixture
def vote(running):
    """Submits a vote and waits; returns its result and the bodies that the server got."""
    fleet, server = running

    def go(join: str, options: dict[str, Any], say: Any, *, refuses: str = "", **fields: Any):
        server.bodies, server.say, server.refuses = [], say if callable(say) else lambda _: say, refuses
        request = {"text": "my text", "route": "asked", "kind": "vote", "n": 3, "early_stop": "off"}
        job = fleet.producer.submit({**request, "join": join, "join_options": options, **fields})
        return fleet.producer.wait(job.id, timeout=DEADLINE), server.bodies

    return go


def form_of(body: dict[str, Any]) -> Any:
    return body["response_format"]["json_schema"]["schema"]["properties"]["answer"]


@pytest.mark.parametrize("text", [ANSWERS["yes"], "Yes. It is.", "The answer is: yes"])
def test_choices_are_asked_for_and_read_in_whatever_form_they_come(vote, text):
    result, bodies = vote("majority", {"answers": ["yes", "no"], "show": "ballot"}, text)
    assert (result.state, result.output) == ("succeeded", "yes")
    assert len(bodies) == 3
    assert all(form_of(body) == {"type": "string", "enum": ["yes", "no"]} for body in bodies)


def test_text_of_a_wrapped_vote_is_the_plain_answer_without_its_reasoning(vote):
    result, _ = vote("majority", {"answers": ["yes", "no"]}, ANSWERS["yes"])
    assert (result.output, [part.output for part in result.parts]) == ("yes", ["yes"] * 3)


def test_scores_are_asked_for_as_numbers(vote):
    result, bodies = vote("mean", {"least": 1, "most": 10}, ANSWERS["7"])
    assert result.output == "7"
    assert form_of(bodies[0])["type"] == "number"
    assert vote("median", {"least": 1, "most": 10}, "I give it an 8 out of 10.")[0].output == "8"


@pytest.mark.parametrize(
    "text",
    ['{"reasoning": "", "answer": ["Rome", "Berlin", "Paris"]}', "1. Rome\n2. Berlin\n3. Paris", '["Rome", "Berlin"]'],
)  # fmt: skip
def test_rankings_are_asked_for_as_a_list_of_the_candidates(vote, text):
    result, bodies = vote("ranked", {"among": CITIES, "show": "json"}, text)
    assert json.loads(result.output) == ["Rome", "Berlin", "Paris"]
    assert form_of(bodies[0])["items"] == {"type": "string", "enum": CITIES}


def test_threshold_asks_for_the_words_that_the_job_names(vote):
    options = {"flag": ["toxic"], "clear": ["fine"], "k": 2}
    result, bodies = vote("threshold", options, '{"reasoning": "It is fine at first.", "answer": "toxic"}')
    assert result.output == "flagged"
    assert form_of(bodies[0])["enum"] == ["toxic", "fine"]


@pytest.mark.parametrize(
    ("join", "options", "fields"),
    [
        ("majority", {}, {}),
        ("majority", {"answers": ["yes", "no"], "extract": r"(yes|no)"}, {}),
        ("majority", {"answers": ["yes", "no"]}, {"max_tokens": 20}),
        ("majority", {"answers": ["yes", "no"]}, {"stop": ["\n"]}),
        ("majority", {"answers": ["yes", "no"]}, {"route": "plain"}),
        ("threshold", {}, {}),
    ],
)
def test_vote_without_a_form_or_room_for_one_is_asked_as_before(vote, join, options, fields):
    result, bodies = vote(join, options, "yes", **fields)
    assert result.state == "succeeded"
    assert result.output == ("flagged" if join == "threshold" else "yes")
    assert not any("response_format" in body for body in bodies)


def test_server_that_refuses_the_form_is_read_as_free_text(vote):
    result, bodies = vote(
        "majority", {"answers": ["yes", "no"], "show": "ballot"}, "Yes.", refuses="response_format", route="picky"
    )
    assert result.output == "yes"
    again, bodies = vote(
        "majority", {"answers": ["yes", "no"], "show": "ballot"}, "No.", refuses="response_format", route="picky"
    )
    assert again.output == "no"
    assert len(bodies) == 3
    assert all(part.tried[0].attempts == 1 for part in (*result.parts, *again.parts))


def test_seed_of_votes_is_left_out_where_it_is_refused(vote):
    result, bodies = vote("majority", {}, "yes", refuses="seed")
    assert result.state == "succeeded"
    assert "seed" not in bodies[-1]


def test_temperature_that_the_votes_set_is_refused_with_its_name(vote):
    result, _ = vote("majority", {}, "yes", refuses="temperature", temperature=0.7)
    assert result.state == "failed"
    assert "does not take temperature, which the job sets" in result.error


@pytest.mark.parametrize("text", ['{"answer": ["a", "b"]}', '["a", "b"]'])
def test_array_schema_of_a_job_is_wrapped_and_its_output_is_the_array(vote, text):
    schema = {"type": "array", "items": {"type": "string"}}
    result, bodies = vote("majority", {}, text, response_schema=schema)
    assert json.loads(result.output) == ["a", "b"]
    assert form_of(bodies[0]) == schema
