"""``pointsman pools drain``: a model takes no new calls, what is queued there is worked off, or goes elsewhere."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from producer.api.console import PoolRow, draw
from tasks.loading.load import load
from tests import forked, redis_keys
from tests.harness import DEADLINE, REPOSITORY, fleet, wait_for
from tests.recorder import Say, recorder

CAPACITY = 4


@pytest.fixture(autouse=True)
def undrained(place):
    """A test that fails leaves no mark to the next."""
    yield
    place[0].redis.delete(redis_keys.DRAINED, redis_keys.SERVED)


class Cli:
    def __init__(self, running) -> None:
        self._env = {**os.environ, **running.env, "COLUMNS": "200"}

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return forked.run("ops", *words, env=self._env, cwd=REPOSITORY, timeout=DEADLINE)

    def json(self, *words: str):
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models behind one route, of which only the second is served, and a third alone."""
    says = {"first": lambda _: Say(), "second": lambda _: Say(), "alone": lambda _: Say()}
    with recorder(says) as models:
        configured = {name: {"base_url": models.url, "capacity": CAPACITY} for name in says}
        routes = {
            "either": {"models": ["first", "second"], "strategy": "round_robin"},
            "only": {"models": ["alone"]},
        }
        folder = tmp_path_factory.mktemp("fleet")
        with fleet(folder, models=configured, simulations={"none": {}}, routes=routes) as running:
            running.start_all([("route,join", 2), ("model.second", CAPACITY)])
            yield running, models.of, Cli(running)


def submit(running, count, **more):
    return running.producer.submit_many([{"text": f"job {number}", **more} for number in range(count)])


def models_of(running, jobs):
    return {running.producer.wait(job.id, timeout=DEADLINE).parts[0].model for job in jobs}


def queued_at_first(running, count):
    """Jobs of the route that stand in the queue of the first model, which no worker serves."""
    store = running.redis
    store.hset(redis_keys.DRAINED, "second", 1)
    jobs = submit(running, count)
    wait_for(lambda: store.llen("model.first") == count, "the queue")
    store.hdel(redis_keys.DRAINED, "second")
    return jobs


def test_drained_model_gets_no_call_and_works_its_queue_off(place):
    running, asked, cli = place
    queued = queued_at_first(running, 4)

    done = cli("pools", "drain", "first")
    assert done.returncode == 0, done.stderr
    assert "takes no new calls; queued calls are still made (4 queued or running)" in done.stdout
    later = submit(running, 6)
    assert models_of(running, later) == {"second"}
    assert running.redis.llen("model.first") == 4

    worker = running.start("model.first", CAPACITY)
    assert models_of(running, queued) == {"first"}
    assert len(asked["first"].times) == 4
    done = cli("pools", "drain", "first", "--reset")
    assert done.stdout == "first: takes calls again\n"
    assert models_of(running, submit(running, 4)) == {"first", "second"}
    worker.stop()


def test_drain_with_move_sends_queued_calls_to_other_models(place):
    running, asked, cli = place
    queued, before = queued_at_first(running, 4), len(asked["second"].times)
    done = cli("pools", "drain", "first", "--move")
    assert "queued calls go to other models" in done.stdout

    assert models_of(running, queued) == {"second"}
    assert len(asked["second"].times) == before + 4
    explained = cli("explain", queued[0].id)
    assert "moved from first: drained" in explained.stdout
    parts = cli.json("explain", queued[0].id)["parts"]
    assert parts[0]["moved"] == [{"model": "first", "why": "drained"}]
    cli("pools", "drain", "first", "--reset")


def test_drain_of_the_only_candidate_has_its_jobs_wait_with_the_reason(place):
    running, asked, cli = place
    done = cli("pools", "drain", "alone", "--move")
    assert "jobs of only wait: no other model of theirs is open" in done.stderr
    job = running.producer.submit({"text": "x", "route": "only"})
    named = running.producer.submit({"text": "x", "model": "alone"})
    for waiting in (job, named):
        wait_for(lambda waiting=waiting: running.producer.result(waiting.id).state == "waiting", "a job that waits")

    worker = running.start("model.alone", 2)
    assert len(asked["alone"].times) == 0
    cli("pools", "drain", "alone", "--reset")
    assert models_of(running, [job, named]) == {"alone"}
    worker.stop()


def test_drain_shows_in_every_list_and_on_the_page(place):
    running, _, cli = place
    assert cli.json("pools", "drain", "first")["drained"] is True
    assert cli.json("pools", "drain", "second", "--move")["move"] is True
    pools = {pool["model"]: pool for pool in cli.json("pools")}
    assert {name: (pool["closed"], pool["drained"], pool["moves"]) for name, pool in pools.items()} == {
        "alone": (None, False, False),
        "first": ("drained", True, False),
        "second": ("drained", True, True),
    }
    table = {line.split()[0]: line.rstrip() for line in cli("pools").stdout.splitlines()}
    assert table["alone"].endswith("-")
    assert table["first"].endswith("drained")
    assert table["second"].endswith("drained, queue moves")
    models = {model["name"]: model["now"]["closed"] for model in cli.json("models")}
    assert models == {"first": "drained", "second": "drained", "alone": None}
    assert "drained" in cli("models").stdout

    page = draw([PoolRow("first", 4, 0, 0, 0, simulated=False, closed="drained")], load(running.config_path))
    assert 'title="an operator has drained it">drained<' in page
    for name in ("first", "second"):
        assert cli("pools", "drain", name, "--reset").returncode == 0
    assert {pool["closed"] for pool in cli.json("pools")} == {None}


@pytest.mark.parametrize(
    ("words", "problem"),
    [(["unknown"], "not known"), (["first", "--move", "--reset"], "exclude each other")],
)
def test_drain_refuses_bad_arguments(place, words, problem):
    running, _, cli = place
    done = cli("pools", "drain", *words)
    assert done.returncode != 0
    assert problem in done.stderr
    assert running.redis.hlen(redis_keys.DRAINED) == 0


def test_dead_pool_shows_in_the_lists(place):
    running, _, cli = place
    running.redis.hset(redis_keys.SERVED, "alone", 1)
    assert {pool["model"]: pool["closed"] for pool in cli.json("pools")}["alone"] == "dead"
    running.redis.hdel(redis_keys.SERVED, "alone")
