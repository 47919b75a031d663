"""Models that refuse, break, babble or never answer: a clear error with a remedy, and no job is lost."""

from __future__ import annotations

import re

import pytest

from tests.harness import DEADLINE, fleet

FAILURES = {
    "bad_request": "HTTP 400 .*refuses this request; check the job's parameters and its length",
    "unauthorized": "HTTP 401 .*key is missing or refused; check the variable named by api_key_env",
    "not_found": "HTTP 404 .*no such model or address; check model and base_url",
    "html": "answered with text/html instead of JSON; is base_url right",
    "empty": "answered with nothing; is base_url the address of its API",
    "never": "did not answer within 1 s",
    "reset": "no connection, or it broke off",
}
MODELS = {
    # Their breakers wait for more failures than there are here: test_limits.py has how they open.
    **{
        name.replace("_", "-"): {"capacity": 2, "attempts": 2, "timeout": 1.0, "breaker": {"attempts": 1000}}
        for name in FAILURES
    },
    "closed": {"capacity": 2, "attempts": 2, "base_url": "http://127.0.0.1:9/v1"},
    # Its errors pass: by chance half of ten may fail, which shall not close it for a while.
    "shaky": {"capacity": 4, "attempts": 12, "breaker": {"error_rate": 1.0}},
    "good": {"capacity": 4},
    # Served by `pointsman up`, which does not run here.
    "nowhere": {"capacity": 2, "provider": "simulated", "base_url": None},
}
SIMULATIONS = {
    **{name.replace("_", "-"): {"failure": name} for name in FAILURES},
    "shaky": {"error_rate": 0.4},
    "good": {},
}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    routes = {"good": {"models": ["good"]}}
    folder = tmp_path_factory.mktemp("fleet")
    with fleet(folder, models=MODELS, simulations=SIMULATIONS, routes=routes) as running:
        queues = ",".join(f"model.{name}" for name in MODELS)
        running.start_all([("route,join", 4), (queues, 20)])
        yield running


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_each_have_their_own_error_with_a_remedy(running, failure):
    model = failure.replace("_", "-")
    job = running.producer.submit({"text": "my secret text", "model": model})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "failed"
    assert f"model '{model}'" in result.error
    assert re.search(FAILURES[failure], result.error), result.error
    assert "secret" not in result.error
    # An unusable model is asked once: its breaker is open from then on.
    assert result.parts[0].attempts == (2 if failure in {"html", "empty", "never", "reset"} else 1)


@pytest.mark.parametrize(("model", "attempts"), [("bad-request", 1), ("html", 2), ("never", 2)])
def test_temporary_errors_are_tried_again_and_permanent_ones_are_not(running, model, attempts):
    job = running.producer.submit({"text": "x", "model": model})
    assert running.producer.wait(job.id, timeout=DEADLINE).parts[0].attempts == attempts


def test_server_that_is_down_is_a_connection_failure(running):
    job = running.producer.submit({"text": "x", "model": "closed"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "failed"
    assert "no connection" in result.error
    assert "is its server up" in result.error


def test_model_that_lacks_configuration_here_fails_at_once_with_the_remedy(running):
    job = running.producer.submit({"text": "x", "model": "nowhere"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, result.parts[0].attempts) == ("failed", 0)
    assert "set POINTSMAN_SIMULATED_URL or base_url" in result.error


def test_passing_errors_cost_attempts_but_no_job(running):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "shaky"} for number in range(20)])
    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
    assert {result.state for result in results} == {"succeeded"}
    assert sum(result.parts[0].attempts for result in results) > 20


def test_failing_part_fails_the_job_under_policy_fail_and_stops_the_rest(running):
    job = running.producer.submit({"kind": "sections", "items": ["a", "b", "c"], "model": "bad-request"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "failed"
    assert "policy" in result.error
    assert "HTTP 400" in result.error


def test_failing_part_keeps_the_chord_whole_under_partial_and_quorum(running):
    request = {"kind": "vote", "text": "x", "n": 4, "model": "shaky", "early_stop": "off"}
    job = running.producer.submit({**request, "policy": "quorum", "quorum": 2})
    assert running.producer.wait(job.id, timeout=DEADLINE).state == "succeeded"
    job = running.producer.submit({"kind": "vote", "text": "x", "n": 3, "model": "bad-request", "policy": "partial"})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, result.parts_failed) == ("failed", 3)


def test_job_whose_deadline_passes_while_it_runs_expires(running):
    job = running.producer.submit({"text": "x", "model": "never", "deadline": 0.3})
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "expired"
    assert "deadline" in result.error


def test_job_whose_deadline_passes_while_it_waits_expires(running):
    blockers = running.producer.submit_many([{"text": f"{number}", "model": "never"} for number in range(12)])
    job = running.producer.submit({"text": "x", "model": "never", "deadline": 0.5})
    assert running.producer.wait(job.id, timeout=DEADLINE).state == "expired"
    for blocker in blockers:
        running.producer.wait(blocker.id, timeout=DEADLINE)


def test_accepted_jobs_of_other_models_are_not_disturbed(running):
    jobs = running.producer.submit_many([{"text": f"{number}"} for number in range(20)])
    assert {running.producer.wait(job.id, timeout=DEADLINE).state for job in jobs} == {"succeeded"}
