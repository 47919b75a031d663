"""What goes wrong in parallel work: every job ends in a final state with its reason, and its join takes effect once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from tasks.accept import accept
from tasks.contract.errors import BadInput
from tasks.contract.job import CallId, parse_job
from tasks.contract.result import FINAL, Decision
from tasks.ledger import Ledger, PartRecord, StagePlan
from tasks.loading.load import load
from tasks.parallel.part_spec import PartSpec, child_id
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher
from tests import redis_keys
from tests.harness import DEADLINE, Finals, fleet, wait_for
from tests.scripted import HELD, Reply, scripted

MODELS = {
    "able": {"capacity": 64, "attempts": 1},
    "held": {"capacity": 16, "attempts": 2},
    "small": {"capacity": 16, "context_window": 100, "attempts": 1},
    "slow": {"capacity": 16, "attempts": 1, "timeout": 0.5},
    "judge": {"capacity": 16, "attempts": 1},
}
DECISION = Decision(route="able", classifier="explicit", confidence=1.0, strategy="round_robin")
#: Joins that another package declares.
OWN_JOINS = """
from tasks.parallel.joins import JoinQuestions, JoinQuestion


def raises(work):
    raise ZeroDivisionError("the secret text of a part")


def asks_for_ever(work):
    return JoinQuestions((JoinQuestion("more?", "Say more.", f"round {len(work.rounds)}"),))


def asks_nothing(work):
    return JoinQuestions(())


def says_no_text(work):
    return None
"""


@pytest.fixture(scope="module")
def voices():
    with scripted() as voices:
        yield voices


@pytest.fixture(scope="module")
def running(tmp_path_factory, voices):
    folder = tmp_path_factory.mktemp("fleet")
    about = folder / "theirs" / "their_joins-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-joins\nVersion: 1.0\n")
    names = ("raises", "asks_for_ever", "asks_nothing", "says_no_text")
    points = "\n".join(f"{name} = their_joins:{name}" for name in names)
    (about / "entry_points.txt").write_text(f"[pointsman.joins]\n{points}\n")
    (folder / "theirs" / "their_joins.py").write_text(OWN_JOINS)
    models = {name: {"base_url": voices.url, **model} for name, model in MODELS.items()}
    models["quick"] = {"capacity": 200}
    routes = {name: {"models": [name]} for name in models}
    with fleet(
        folder,
        models=models,
        simulations={"quick": {}},
        routes=routes,
        default_route="able",
        limits={"parts": 100_000, "keep_seconds": 3600, "payload_bytes": 2**25},
    ) as running:
        router = running.start("route,join", 8, wait=False, env={"PYTHONPATH": str(folder / "theirs")})
        queues = ",".join(f"model.{name}" for name in models if name != "held")
        running.start(queues, 200)
        router.wait_until_ready()
        yield running


@pytest.fixture
def finals(running):
    with Finals(running) as finals:
        yield finals
    assert set(finals.counts.values()) <= {1}, "the end of a job was announced twice"


@pytest.fixture
def submit(running, voices, finals):
    """Submit a job whose models say what a function makes of the question; returns its end, which happens once."""

    def run(say, /, *, timeout=DEADLINE, **job):
        voices.forget(say)
        result = running.producer.wait(running.producer.submit(job).id, timeout=timeout)
        assert once(finals, result.id)
        return result

    return run


@pytest.fixture
def outside(running):
    """Run a coroutine function of a ledger and a publisher, as a process would that dies right after."""
    app = make_app("outside", running.valkey.url)

    def run(function):
        async def steps():
            ledger = Ledger(running.valkey.url, (*MODELS, "quick"))
            try:
                return await function(ledger, Publisher(ledger.store, app))
            finally:
                await ledger.close()

        return asyncio.run(steps())

    return run


def once(finals, *jobs):
    """Each of these jobs has ended, and its end is announced once, perhaps a moment after the record is read."""
    for job in jobs:
        wait_for(lambda job=job: finals.of(job), f"the word of the end of {job}")
        assert finals.of(job) == 1
    return True


async def look_now(ledger, *jobs):
    """The sweeper's next look at these jobs is due."""
    await ledger.fleet.watch(dict.fromkeys(jobs, -1.0))


def sections(*items, **more):
    return {"kind": "sections", "items": list(items), "model": "able", **more}


def vote(n, **more):
    return {"kind": "vote", "text": "which?", "n": n, "model": "able", "early_stop": "off", **more}


# -- bad input -----------------------------------------------------------------------------------


def test_document_without_a_section_is_refused_and_one_with_one_succeeds(submit, voices):
    with pytest.raises(BadInput, match="no element with content"):
        submit(lambda _: "x", kind="sections", text="[]", split="json", model="able")
    assert voices.asked == []
    one = submit(lambda _: "done", kind="sections", text="One paragraph.", split="paragraphs", model="able")
    assert (one.error, one.parts_total) == (None, 1)
    assert "done" in one.output


def test_fifty_thousand_refused_sections_fail_at_the_first(submit, voices):
    text = "\n".join(f"line {number}" for number in range(50_000))
    result = submit(lambda _: Reply(status=400), kind="sections", text=text, split="lines", model="able")
    assert (result.state, result.parts_total) == ("failed", 50_000)
    assert "of 50000 parts failed and the policy is fail" in result.error
    assert "model 'able'" in result.error
    # Those of the first wave at most that were under way.
    assert len(voices.asked) < 1000


def test_thousands_of_sections_are_joined_in_order_over_their_waves(running, submit):
    text = "\n".join(f"line {number}" for number in range(2500))
    result = submit(lambda _: "", kind="sections", text=text, split="lines", model="quick")
    assert (result.state, result.parts_total, result.parts_failed) == ("succeeded", 2500, 0)
    assert [part.output for part in result.parts[::999]] == [
        f"[simulated quick] line {number}" for number in range(0, 2500, 999)
    ]
    assert running.stats("quick")["requests"] == 2500


@pytest.mark.parametrize("policy", ["fail", "partial"])
def test_part_over_the_model_s_context_fails_the_job_or_is_missing(submit, voices, policy):
    result = submit(lambda _: "done", **sections("short", "word " * 500, "brief") | {"model": "small"}, policy=policy)
    if policy == "fail":
        assert (result.state, voices.asked) == ("failed", [])
        assert "its window has 100" in result.error
        return
    assert (result.state, result.parts_failed, len(voices.asked)) == ("succeeded", 1, 2)
    assert "[section 2" in result.output
    assert "its window has 100" in result.output
    assert [gap["index"] for gap in result.details["missing"]] == [1]


def test_partial_policy_fails_with_a_reason_if_no_part_fits(submit, voices):
    result = submit(lambda _: "done", **sections("word " * 500, "word " * 600) | {"model": "small"}, policy="partial")
    assert (result.state, voices.asked) == ("failed", [])
    assert "at least one must succeed" in result.error
    assert "its window has 100" in result.error


def test_answers_of_the_wrong_schema_fail_their_parts(submit):
    schema = {"type": "object", "properties": {"risk": {"type": "integer"}}, "required": ["risk"]}
    say = lambda asked: '{"risk": "a secret"}' if "bad" in asked.text else '{"risk": 1}'  # noqa: E731
    failed = submit(say, **sections("good", "bad"), response_schema=schema, join="merge")
    assert failed.state == "failed"
    assert "section 2" in failed.error
    assert "schema" in failed.error
    assert "a secret" not in failed.error
    partial = submit(say, **sections("good", "bad"), response_schema=schema, join="merge", policy="partial")
    assert (partial.state, json.loads(partial.output)["risk"]) == ("succeeded", 1)
    assert [gap["index"] for gap in partial.details["missing"]] == [1]


@pytest.mark.parametrize("join", ["best_of", "synthesis", "options", "consistent"])
def test_judge_that_refuses_or_fails_ends_the_job_with_or_without_reason(submit, join):
    job = vote(3, join=join, join_model="judge", seed=1)
    if join == "consistent":
        job["join_options"] = {"method": "model"}
    if join == "options":
        job["join_options"] = {"by": "judge"}
    for refusal in (Reply("I can't help with that."), Reply(status=400)):
        result = submit(
            lambda asked, message=refusal: message if asked.model == "judge" else f"take {asked.seed} of the text",
            **job,
        )
        assert result.state in FINAL
        assert result.error if result.state == "failed" else result.output, result


def test_vote_reports_ties_and_votes_that_all_differ(submit):
    tied = submit(lambda asked: "yes" if asked.seed % 2 else "no", **vote(4))
    assert (tied.state, tied.output in {"yes", "no"}) == ("succeeded", True)
    assert sorted(tied.details["tie"]) == ["no", "yes"]
    different = submit(lambda asked: f"answer {asked.seed}", **vote(5))
    assert (different.state, different.output) == ("succeeded", "answer 0")
    assert len(different.details["tie"]) == 5
    assert different.details["confidence"] <= 0.5


@pytest.mark.parametrize("policy", ["fail", "partial"])
def test_job_whose_parts_all_fail_has_the_reason_of_the_first(submit, policy):
    for job in (sections("a", "b"), vote(3), vote(3, join="threshold", early_stop="exact")):
        result = submit(lambda _: Reply(status=400), **job, policy=policy)
        assert result.state == "failed"
        assert f"the policy is {policy}" in result.error
        assert "model 'able'" in result.error


def test_threshold_is_decided_by_the_only_vote_that_succeeds(submit):
    # Two of three fail: two flags can't come any more, and yet nothing has been said.
    job = vote(3, join="threshold", early_stop="exact", policy="partial", join_options={"k": 2})
    result = submit(lambda asked: "no" if asked.seed == 2 else Reply(status=400), **job)
    assert (result.state, result.output) == ("succeeded", "clear")


def test_part_of_a_server_that_never_answers_times_out(submit):
    result = submit(
        lambda asked: HELD if asked.text == "b" else "done", **sections("a", "b") | {"model": "slow"}, policy="partial"
    )
    assert (result.state, result.parts[1].state) == ("succeeded", "failed")
    assert "did not answer" in result.parts[1].error or "0.5 s" in result.parts[1].error


# -- joins of another package ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("join", "reason"),
    [
        ("raises", "the join failed: ZeroDivisionError"),
        ("asks_for_ever", "the join asked 64 times and came to no end"),
        ("asks_nothing", "the join asked 0 times and came to no end"),
        ("says_no_text", "the join"),
    ],
)
def test_join_that_raises_or_never_ends_fails_its_job(running, outside, finals, voices, join, reason):
    voices.forget(lambda _: "more")
    job = parse_job(sections("a", "b", join=join))

    async def steps(ledger, publisher):
        await accept([job], ledger=ledger, publisher=publisher, config=load(running.config_path))

    outside(steps)
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert result.state == "failed"
    assert reason in result.error
    assert "secret" not in result.error
    assert once(finals, job.id)
    assert len(voices.asked) == 2 + sum(part.role == "join" for part in result.parts)


# -- messages that come twice, or never --------------------------------------------------------------


def test_messages_that_come_many_times_at_once_take_effect_once(running, outside, finals, voices):
    plan = json.dumps({"sections": [{"title": "T", "brief": "B"}, {"title": "U", "brief": "C"}]})

    def say(asked):
        # The votes are even to the last.
        return plan if asked.structured else f"{asked.seed % 2}" if asked.prompt == "x" else f"{asked.text[:5]}!"

    voices.forget(say)
    shapes = [
        sections("a", "b", each={"kind": "vote", "n": 3, "model": "able"}),
        sections("a", "b", join="synthesis"),
        {"kind": "sections", "text": "p", "split": "plan", "model": "able"},
        # It goes out in four waves or less.
        vote(7, early_stop="exact", prefer="cost", variety={"prompts": ["x"]}),
    ]
    jobs = [running.producer.submit(shape).id for shape in shapes for _ in range(5)]

    async def steps(_ledger, publisher):
        for _ in range(15):
            await asyncio.gather(
                *(publisher.send_join(job, wave=wave) for job in jobs for wave in (0, 1)),
                *(publisher.send_fanout(job, wave=wave) for job in jobs for wave in (0, 1, 2)),
                *(publisher.send_finish_parts([CallId(job, index, 0) for index in (0, 1)]) for job in jobs),
                *(publisher.send_join(child_id(job, index)) for job in jobs for index in (0, 1)),
            )

    outside(steps)
    results = [running.producer.wait(job, timeout=DEADLINE) for job in jobs]
    assert [result.error for result in results] == [None] * 20
    assert once(finals, *jobs, *(part.job for result in results for part in result.parts if part.job))
    assert [result.parts_total for result in results] == [2] * 5 + [3] * 10 + [7] * 5
    assert all(part.attempts <= 1 for result in results for part in result.parts)
    assert len(voices.asked) <= 5 * (6 + 3 + 3 + 7)
    assert {result.output for result in results[15:]} == {"0"}


def test_sweeper_sends_what_a_router_left_half_done(running, outside, finals, voices):
    voices.forget(lambda asked: f"{asked.text}!")
    flat = parse_job(sections("a", "b", "c"))
    nested = parse_job(sections("a", "b", each={"model": "able"}))
    waves = parse_job(vote(7, early_stop="exact", prefer="cost"))

    async def steps(ledger, _publisher):
        await ledger.accept([flat, nested, waves], keep_seconds=3600)
        plan = DECISION.model_dump_json()
        for job in (flat, nested, waves):
            await ledger.jobs.route(job.id, DECISION)
        # It wrote all down, and died before it had published anything.
        await ledger.plan(flat.id, plan, StagePlan([PartSpec("able", "", text) for text in "abc"]))
        children = [PartSpec("", "", text, job=child_id(nested.id, index)) for index, text in enumerate("ab")]
        await ledger.plan(nested.id, plan, StagePlan(children))
        await ledger.plan(waves.id, plan, StagePlan([PartSpec("able")] * 7, wave=4))
        calls = [CallId(flat.id, index, 0) for index in range(3)] + [CallId(waves.id, index, 0) for index in range(4)]
        await ledger.fleet.lease({"able": calls}, seconds=-1.0)
        await look_now(ledger, flat.id, nested.id, waves.id)

    outside(steps)
    redis = running.redis
    for job, left in ((flat, "0"), (nested, "0"), (waves, "3")):
        wait_for(lambda job=job, left=left: redis.hget(redis_keys.job(job.id), "left") == left, "the end of the parts")
    # Their chords were never opened: that they are complete is seen at the next look.
    outside(lambda ledger, _: look_now(ledger, flat.id, nested.id, waves.id))
    for job, outputs in ((flat, ["a!", "b!", "c!"]), (nested, ["a!", "b!"])):
        result = running.producer.wait(job.id, timeout=DEADLINE)
        assert (result.state, [part.output for part in result.parts]) == ("succeeded", outputs)
        assert once(finals, job.id)
    assert running.producer.wait(waves.id, timeout=DEADLINE).state == "succeeded"
    # Four of seven can't be caught.
    assert Counter(asked.text for asked in voices.asked) == {"a": 2, "b": 2, "c": 1, "which?": 4}


def test_sweeper_finds_an_end_that_was_not_reported(running, outside, finals, voices):
    voices.forget(lambda _: HELD)
    job = running.producer.submit(sections("a", "b", each={"kind": "sections", "split": "paragraphs", "model": "able"}))
    children = [child_id(job.id, index) for index in (0, 1)]
    wait_for(lambda: voices.in_flight == 2, "the calls of its children")

    async def steps(ledger, _publisher):
        for child in children:
            # Its part's output is written and counted nowhere; it is joined; the part above hears nothing.
            (part,) = await ledger.views.statuses(child, 0, 1)
            call = CallId(child, 0, 0)
            await ledger.settle(call, part.model, part.owner, output="late", record=PartRecord())
            assert (await ledger.jobs.join(child)).word == "go"
            assert await ledger.jobs.conclude(child, "succeeded", output="late")
            await ledger.fleet.cancel(child)
        await look_now(ledger, job.id)

    outside(steps)
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, [part.output for part in result.parts]) == ("succeeded", ["late", "late"])
    assert once(finals, job.id, *children)
    wait_for(lambda: voices.in_flight == 0, "the calls to be let go")


# -- workers that are killed -----------------------------------------------------------------------


def test_parts_of_all_shapes_of_a_killed_worker_are_done_by_another(running, outside, finals, voices):
    voices.forget(lambda asked: HELD if asked.model == "held" else "done")
    victim = running.start("model.held", 16)
    shapes = [
        sections("a", "b", model="held"),
        sections("a", "b", each={"kind": "vote", "n": 3, "model": "held"}, model="auto"),
        sections("a", "b", join="synthesis", join_model="held"),
        {"kind": "sections", "text": "plan it", "split": "plan", "model": "able", "join_model": "held"},
        sections("counted", "not", model="held"),
    ]
    jobs = [running.producer.submit(shape).id for shape in shapes]
    wait_for(lambda: voices.in_flight == 2 + 6 + 1 + 1 + 2, "the calls")
    counted = jobs[-1]

    async def write_outputs(ledger, _publisher):
        # The last job's outputs are written, and its worker dies before the chord hears of it.
        for part in await ledger.views.statuses(counted, 0, 2):
            await ledger.jobs.finish(counted, part.index, part.owner, output=f"{part.index}", record=PartRecord())

    outside(write_outputs)
    victim.kill()
    asked = len(voices.asked)
    plan = json.dumps({"sections": [{"title": "T", "brief": "B"}]})
    voices.say = lambda asked: plan if asked.structured else "again"
    running.start("model.held", 16, wait=False)
    outside(lambda ledger, _: look_now(ledger, counted))

    results = [running.producer.wait(job, timeout=DEADLINE) for job in jobs]
    assert [result.error for result in results] == [None] * 5
    assert [part.attempts for part in results[0].parts] == [2, 2]
    assert results[2].output == "again"
    assert [part.output for part in results[-1].parts] == ["0", "1"]
    assert once(finals, *jobs)
    # Once more what was in flight, and what the plan has proposed; nothing of what had been written.
    assert len(voices.asked) - asked == 2 + 6 + 1 + 1 + 1


def test_router_killed_among_its_waves_and_joins_leaves_nothing_undone(running, finals, voices):
    voices.forget(lambda _: "done")
    jobs = [
        running.producer.submit(sections(*(f"{number}" for number in range(1500)), model="quick")).id,
        *(
            running.producer.submit(sections("a", "b", each={"kind": "vote", "n": 3, "model": "able"})).id
            for _ in range(5)
        ),
        *(running.producer.submit(sections("a", "b", join="synthesis")).id for _ in range(5)),
    ]
    wait_for(lambda: len(voices.asked) > 5, "progress")
    running.workers[0].kill()
    running.workers[0] = running.start("route,join", 8, wait=False)

    results = [running.producer.wait(job, timeout=DEADLINE) for job in jobs]

    assert {result.state for result in results} == {"succeeded"}
    assert once(finals, *jobs)
    assert [part.attempts for part in results[0].parts] == [1] * 1500
