"""The outcome, the cost and the telemetry event of one attempt."""

import pytest

from tasks.calling.attempt import Attempt
from tasks.config.models import Model
from tasks.contract.errors import (
    BadReply,
    BadRequest,
    ConnectionFailed,
    ContextTooLong,
    ModelError,
    ModelUnsuited,
    NoAnswer,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    SchemaMismatch,
    TimedOut,
    Unauthorized,
)
from tasks.contract.job import CallId, Job
from tasks.contract.job_fields import Message
from tasks.contract.model_client import ModelReply, ModelRequest
from tasks.contract.result import Decision, Usage
from tasks.ledger import Claim
from tasks.ledger.limiter import Grant
from tasks.parallel.part_spec import PartSpec

JOB = Job(text="my secret text")
CLAIM = Claim(
    attempt=2,
    part=PartSpec("a"),
    job=JOB,
    decision=Decision(route="billing", classifier="rules", confidence=1.0, strategy="round_robin"),
    queue_wait_s=1.5,
    time_left_s=None,
)


def attempt(*, error=None, reply=None, sent=True, hedge=False, probe=False, timeout=120.0):
    grant = Grant("p:1", "a", "", 0.0, 10, 0.25, probe=probe, mean_output=1.0)
    request = ModelRequest("m", (Message(role="user", content="my secret text"),), timeout=timeout)
    model = Model(provider="simulated", price={"output": 2})
    return Attempt(grant, request, model, hedge=hedge, sent=sent, reply=reply, error=error)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Overloaded, "fault"),
        (ConnectionFailed, "fault"),
        (TimedOut, "fault"),
        (BadReply, "fault"),
        (SchemaMismatch, "neutral"),
        (BadRequest, "neutral"),
        (ContextTooLong, "neutral"),
        (RateLimited, "throttled"),
        (QuotaExhausted, "unusable"),
        (Unauthorized, "unusable"),
        # Our own mistake: neither a fault of the model nor a sign that it serves.
        (NoAnswer, "neutral"),
        (ModelUnsuited, "neutral"),
        (ModelError, "cancelled"),
    ],
)
def test_outcome_blames_a_model_for_its_own_faults_alone(error, outcome):
    assert attempt(error=error("a", "no")).outcome == outcome


def test_firewall_that_answers_says_nothing_of_the_model():
    assert attempt(error=ConnectionFailed("a", "no")).outcome == "fault"
    assert attempt(error=ConnectionFailed("a", "no", status=403)).outcome == "unasked"


def test_attempt_cut_short_by_the_deadline_is_no_fault_of_the_model():
    assert attempt(error=TimedOut("a", "no"), timeout=0.5).outcome == "cancelled"


def test_cost_is_nothing_when_unsent_and_what_was_booked_when_cancelled():
    assert (attempt(sent=False).outcome, attempt(sent=False).cost_usd) == ("unasked", 0.0)
    assert (attempt().outcome, attempt().cost_usd) == ("cancelled", 0.25)
    assert attempt(error=Overloaded("a", "503")).cost_usd == 0.0


def test_cost_includes_answers_that_could_not_be_used():
    failed = attempt(error=SchemaMismatch("a", "no", usage=Usage(input_tokens=9, output_tokens=500_000)))
    assert failed.cost_usd == 1.0
    event = failed.event(CallId(JOB.id, 0), CLAIM)
    assert (event.outcome, event.error, event.cost_usd, event.usage.output_tokens) == (
        "failed",
        "schema_mismatch",
        1.0,
        500_000,
    )
    # A repair that another error ended, cut short by the job's deadline: what was booked may be more.
    late = TimedOut("a", "no")
    late.usage = Usage(output_tokens=1000)
    assert attempt(error=late, timeout=0.5).cost_usd == 0.25


def test_event_of_an_answer_has_hedge_and_probe_and_no_text():
    reply = ModelReply("my secret answer", Usage(output_tokens=500_000), finish_reason="length", first_byte_s=0.2)
    event = attempt(reply=reply, hedge=True, probe=True).event(CallId(JOB.id, 3), CLAIM)

    assert (event.outcome, event.number, event.hedge, event.probe) == ("succeeded", 3, True, True)
    assert (event.cost_usd, event.first_byte_s, event.finish_reason) == (1.0, 0.2, "length")
    assert (event.route, event.queue_wait_s, event.index) == ("billing", 1.5, 3)
    assert "secret" not in repr(event)


def test_event_of_a_failure_has_its_code_and_the_time_of_the_retry():
    event = attempt(error=Overloaded("a", "503", status=503)).event(CallId(JOB.id, 0), CLAIM, retry_in_s=4.0)

    assert (event.outcome, event.error, event.status, event.retry_in_s) == ("failed", "overloaded", 503, 4.0)
    assert attempt().event(CallId(JOB.id, 0), CLAIM).outcome == "cancelled"
