"""Parallel work in its shapes, over real workers: what is asked of the models, and what comes of it."""

from __future__ import annotations

import json
import os
from collections import Counter

import httpx
import pytest
import yaml

from tasks.contract.errors import BadInput
from tasks.contract.result import FINAL
from tests import forked, redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.scripted import HELD, Reply, scripted

MODELS = {
    "one": {"capacity": 16, "price": {"input": 1000.0, "output": 1000.0}, "profile": {"accuracy": 95}},
    "two": {"capacity": 16, "profile": {"accuracy": 60}, "attempts": 1},
    "three": {"capacity": 16, "profile": {"accuracy": 55}},
    "judge": {"capacity": 16},
    "small": {"capacity": 16, "context_window": 900},
    "mute": {"capacity": 16, "attempts": 1},
}
ROUTES = {
    "plain": {"models": ["two"]},
    "legal": {"models": ["three"], "prompt": "You are a lawyer."},
    "either": {"models": ["mute", "two"], "strategy": "round_robin"},
    "judges": {"models": ["judge"], "prompt": "Never shown to a join's question."},
}
#: Two steps, the first of which may be left out, the second a vote.
INNER = {
    "description": "Shorten, then decide.",
    "input": "text",
    "steps": [
        {"name": "short", "when": "text != 'nothing to shorten'", "job": {"prompt": "Shorten.", "model": "two"}},
        {"name": "verdict", "input": "{{ steps.short or text }}!", "job": {"kind": "vote", "n": 3, "model": "one"}},
    ],
    "output": "{{ steps.short }} -> {{ steps.verdict }}",
}
#: The other as one of its steps.
OUTER = {
    "description": "Sections, each of which goes through a workflow.",
    "input": "text",
    "steps": [
        {
            "name": "clauses",
            "job": {"kind": "sections", "split": "paragraphs", "each": {"kind": "inner"}, "policy": "partial"},
        },
        {"name": "again", "job": {"kind": "inner"}},
        {"name": "bonus", "optional": True, "job": {"prompt": "Optional.", "model": "two"}},
        {"name": "last", "input": "{{ steps.again }}|{{ steps.bonus }}", "job": {"prompt": "Last.", "model": "two"}},
    ],
}


@pytest.fixture(scope="module")
def voices():
    with scripted() as voices:
        yield voices


@pytest.fixture(scope="module")
def running(tmp_path_factory, voices):
    folder = tmp_path_factory.mktemp("fleet")
    for name, flow in (("inner", INNER), ("outer", OUTER)):
        (folder / name).mkdir()
        (folder / name / "workflow.yaml").write_text(yaml.safe_dump(flow))
    (folder / "prompts").mkdir()
    (folder / "prompts" / "own.md").write_text("Own of {{ title }}, {{ index }} of {{ total }}.")
    models = {name: {"base_url": voices.url, **model} for name, model in MODELS.items()}
    flows = {"inner": "./inner", "outer": "./outer"}
    with fleet(
        folder, models=models, simulations={"none": {}}, routes=ROUTES, default_route="plain", workflows=flows
    ) as running:
        queues = ",".join(f"model.{name}" for name in MODELS)
        running.start_all([("route,join", 8), (queues, 96)])
        yield running


@pytest.fixture
def submit(running, voices):
    """Submit a job whose models say what a function makes of the question; returns its end."""

    def run(say, /, *, timeout=DEADLINE, **job):
        voices.forget(say)
        return running.producer.wait(running.producer.submit(job).id, timeout=timeout)

    return run


def counted(voices, field="model"):
    return Counter(getattr(asked, field) for asked in voices.asked)


# -- jobs within jobs ----------------------------------------------------------------------------


def test_sections_that_are_voted_on_are_joined_from_the_winners(running, submit, voices):
    result = submit(
        lambda asked: "risky" if "fee" in asked.text else "fine",
        kind="sections",
        items=["a fee", "a date"],
        each={"kind": "vote", "n": 3, "model": "one", "early_stop": "off"},
    )
    assert (result.state, [part.output for part in result.parts]) == ("succeeded", ["risky", "fine"])
    assert counted(voices, "text") == {"a fee": 3, "a date": 3}
    child = running.producer.result(result.parts[0].job)
    assert (child.kind, child.details["votes"], child.parts_total) == ("vote", 3, 3)
    # What the votes cost is what the section cost, and the job.
    assert result.parts[0].cost_usd == pytest.approx(3 * 0.02)
    assert result.cost_usd == pytest.approx(6 * 0.02)
    assert result.usage.input_tokens == 60


def test_sections_of_sections_come_out_in_the_order_of_the_text(submit):
    text = "# One\n\nfirst\n\nsecond\n\n# Two\n\nthird\n\nfourth"
    result = submit(
        lambda asked: asked.text.upper(),
        kind="sections",
        text=text,
        split="headings",
        each={"kind": "sections", "split": "paragraphs", "model": "two"},
    )
    assert result.state == "succeeded"
    places = [result.output.index(word) for word in ("FIRST", "SECOND", "THIRD", "FOURTH")]
    assert places == sorted(places)


def test_workflow_runs_its_steps_one_after_the_other(running, submit, voices):
    result = submit(lambda asked: f"<{asked.prompt}{asked.text}>", kind="inner", text="hello")
    assert (result.state, result.output) == ("succeeded", "<Shorten.hello> -> <<Shorten.hello>!>")
    assert [(part.title, part.state) for part in result.parts] == [("short", "succeeded"), ("verdict", "succeeded")]
    assert [asked.model for asked in voices.asked] == ["two", *["one"] * (len(voices.asked) - 1)]
    skipped = submit(lambda asked: f"<{asked.prompt}{asked.text}>", kind="inner", text="nothing to shorten")
    assert skipped.output == "-> <nothing to shorten!>"
    assert [part.state for part in skipped.parts] == ["skipped", "succeeded"]
    assert running.producer.result(skipped.parts[1].job).labels == {}


def test_workflow_is_the_work_of_each_section_and_a_step_of_another(submit):
    def say(asked):
        if "Optional" in asked.prompt:
            return Reply(status=400)
        return f"{asked.prompt or 'V'}({asked.text})"

    result = submit(say, kind="outer", text="alpha\n\nbeta")
    assert result.state == "succeeded"
    assert [part.state for part in result.parts] == ["succeeded", "succeeded", "skipped", "succeeded"]
    assert result.output.startswith("Last.(Shorten.(")
    text = "".join(result.output.split())
    assert all(word in text for word in ("Shorten.(alpha)->V(Shorten.(alpha)!)", "Shorten.(beta)"))
    # Whether the optional step failed, and why, can still be seen.
    assert "its job failed" in result.parts[2].error


def test_step_that_fails_ends_its_workflow_and_is_named_in_the_error(submit, voices):
    result = submit(lambda _: Reply(status=400), kind="inner", text="hello")
    assert result.state == "failed"
    assert "step short" in result.error
    assert "HTTP 400" in result.error or "400" in result.error
    assert [part.state for part in result.parts] == ["failed", "skipped"]
    assert counted(voices) == {"two": 1}


# -- items, plans, variety -----------------------------------------------------------------------


def test_items_have_their_own_route_model_prompt_and_schema(submit, voices):
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    result = submit(
        lambda asked: '{"x": 1}' if asked.structured else f"{asked.model}: {asked.prompt}",
        kind="sections",
        model="two",
        prompt="Common.",
        items=[
            "plain",
            {"text": "own prompt", "prompt": "file:own.md", "title": "B"},
            {"text": "own model", "model": "one"},
            {"text": "own route", "route": "legal", "title": "D"},
            {"text": "own schema", "response_schema": schema},
        ],
    )
    assert result.state == "succeeded"
    outputs = [part.output for part in result.parts]
    assert outputs == ["two: Common.", "two: Own of B, 2 of 5.", "one: Common.", "three: Common.", '{"x": 1}']
    assert [part.job is not None for part in result.parts] == [False, False, True, True, False]
    assert result.parts[3].title == "D"


def test_plan_of_a_model_gives_each_section_its_own_task(submit, voices):
    plan = {"sections": [{"title": f"T{number}", "brief": f"brief {number}"} for number in range(3)]}
    result = submit(
        lambda asked: json.dumps(plan) if asked.structured else asked.text.rsplit("\n", 1)[-1],
        kind="sections",
        text="Write about points and crossings.",
        split="plan",
        split_options={"most": 3},
        model="two",
        prompt="You write.",
        join_model="judge",
    )
    assert (result.state, result.error) == ("succeeded", None)
    assert [(part.role, part.title, part.output) for part in result.parts[1:]] == [
        ("", f"T{number}", f"brief {number}") for number in range(3)
    ]
    assert (result.parts[0].role, result.parts[0].model) == ("plan", "judge")
    planner, *writers = voices.asked
    assert (planner.model, planner.structured, "at most 3" in planner.prompt) == ("judge", True, True)
    assert all(asked.prompt == "You write." and asked.text.startswith("Write about points") for asked in writers)
    assert "You plan" not in result.output
    assert "sections" not in result.output


@pytest.mark.parametrize("answer", ['{"sections": []}', "no plan today", '{"sections": [1, 2]}'])
def test_plan_that_proposes_nothing_fails_with_a_reason(submit, answer):
    result = submit(lambda _: answer, kind="sections", text="Write.", split="plan", model="two", max_attempts=1)
    assert result.state == "failed"
    assert "plan" in result.error
    assert "no plan today" not in result.error, result.error


def test_prompts_models_and_seeds_rotate_over_the_votes(submit, voices):
    result = submit(
        lambda _: "yes",
        kind="vote",
        text="really?",
        n=6,
        early_stop="off",
        variety={"prompts": ["Be strict.", "Be kind."], "models": ["one", "two", "three"], "seeds": [7, 8, 9, 10]},
    )
    assert (result.state, result.details["votes"]) == ("succeeded", 6)
    assert counted(voices, "prompt") == {"Be strict.": 3, "Be kind.": 3}
    assert counted(voices) == {"one": 2, "two": 2, "three": 2}
    assert counted(voices, "seed") == {7: 2, 8: 2, 9: 1, 10: 1}
    assert [part.model for part in result.parts] == ["one", "two", "three"] * 2
    assert len({part.prompt_version for part in result.parts}) == 2


# -- joins that ask ------------------------------------------------------------------------------


def test_synthesis_has_the_join_s_model_and_not_the_parts_prompt(submit, voices):
    for named in ("judge", "route:judges"):
        result = submit(
            lambda asked: "all agree [1][2]" if asked.model == "judge" else "a finding",
            kind="sections",
            items=["x", "y"],
            model="two",
            prompt="Summarize.",
            join="synthesis",
            join_model=named,
        )
        assert (result.state, result.output) == ("succeeded", "all agree [1][2]")
        assert [(part.role, part.model) for part in result.parts] == [("", "two"), ("", "two"), ("join", "judge")]
        (question,) = [asked for asked in voices.asked if asked.model == "judge"]
        assert "Summarize." not in question.prompt
        assert "Never shown" not in question.prompt
        assert result.details["cited"] == [0, 1]


def test_parts_that_outgrow_a_window_are_reduced_level_by_level(submit, voices):
    def say(asked):
        return "word " * 120 if "Merge" not in asked.prompt else "merged " * 40

    result = submit(
        say,
        kind="sections",
        items=[f"item {number}" for number in range(12)],
        model="two",
        join="reduction",
        join_model="small",
        join_options={"prompt": "Merge.", "fan_in": 3},
    )
    assert result.state == "succeeded"
    assert result.output.startswith("merged")
    asked = [one for one in voices.asked if one.model == "small"]
    assert result.details["rounds"] >= 3
    assert len(asked) == result.details["questions"] == sum(part.role == "join" for part in result.parts)
    assert all(len(one.text) / 4 < 900 for one in asked)
    assert result.parts_total == 12 + len(asked)


def test_best_of_asks_its_judge_in_both_orders(submit, voices):
    def say(asked):
        if asked.model != "judge":
            return f"take {asked.seed % 3}"
        first = asked.text.index("take 2") < asked.text.index("take ") + 1 if "take 2" in asked.text else None
        return json.dumps({"reason": "r", "winner": "tie" if first is None else "A" if first else "B"})

    result = submit(
        say, kind="vote", text="best?", n=3, seed=3, model="two", join="best_of", join_model="judge", policy="partial"
    )
    assert (result.state, result.output) == ("succeeded", "take 2")
    assert result.details["confidence"] == 1.0
    assert counted(voices)["judge"] == sum(part.role == "join" for part in result.parts) >= 4


# -- when a vote ends ------------------------------------------------------------------------------


def test_votes_go_out_in_waves_for_cost_and_all_at_once_for_latency(submit, voices):
    cheap = submit(lambda _: "yes", kind="vote", text="sure?", n=9, model="one", prefer="cost")
    assert (cheap.state, cheap.output, len(voices.asked)) == ("succeeded", "yes", 5)
    assert Counter(part.state for part in cheap.parts) == {"succeeded": 5, "skipped": 4}
    full = submit(lambda _: "yes", kind="vote", text="sure?", n=9, model="one", early_stop="off", prefer="cost")
    assert (full.details["votes"], len(voices.asked)) == (9, 9)


def test_votes_that_are_not_needed_any_more_are_cancelled_for_latency(submit, voices):
    result = submit(lambda asked: "yes" if asked.seed < 3 else HELD, kind="vote", text="sure?", n=5, model="one")
    assert (result.state, result.output, len(voices.asked)) == ("succeeded", "yes", 5)
    # They would be held for ever.
    wait_for(lambda: voices.in_flight == 0, "the end of the other calls")
    assert Counter(part.state for part in result.parts) == {"succeeded": 3, "skipped": 2}


def test_split_vote_asks_on_for_cost_until_it_is_decided(submit, voices):
    # by seed, that is by index: n n y y y | n y | y …
    answers = ["no", "no", "yes", "yes", "yes", "no", "yes", "yes", "no"]
    result = submit(lambda asked: answers[asked.seed], kind="vote", text="sure?", n=9, model="one", prefer="cost")
    assert (result.state, result.output, len(voices.asked)) == ("succeeded", "yes", 8)


def test_confidence_ends_a_vote_before_it_is_certain(submit, voices):
    result = submit(lambda _: "yes", kind="vote", text="sure?", n=40, model="one", prefer="cost", confidence=0.95)
    assert (result.state, result.output) == ("succeeded", "yes")
    assert len(voices.asked) < 10


def test_threshold_is_decided_by_k_flags_or_when_k_are_impossible(submit, voices):
    threshold = {"kind": "vote", "text": "bad?", "n": 9, "model": "one", "join": "threshold", "prefer": "cost"}
    flagged = submit(lambda _: "yes", **threshold, join_options={"k": 2})
    assert (flagged.output, len(voices.asked)) == ("flagged", 2)
    clear = submit(lambda _: "no", **threshold, join_options={"k": 8})
    assert (clear.output, len(voices.asked)) == ("clear", 2)


def test_vote_has_the_weight_of_its_model(submit):
    result = submit(
        lambda asked: "right" if asked.model == "one" else "wrong",
        kind="vote",
        text="which?",
        n=3,
        early_stop="off",
        join="weighted",
        variety={"models": ["one", "two", "three"]},
    )
    assert (result.state, result.output) == ("succeeded", "right")


def test_decided_vote_waits_for_its_quorum(submit, voices):
    job = {"kind": "vote", "text": "sure?", "n": 5, "model": "one", "prefer": "cost", "policy": "quorum"}
    result = submit(lambda asked: "yes" if asked.seed else Reply(status=400), **job, quorum=4)
    assert (result.state, result.output, len(voices.asked)) == ("succeeded", "yes", 5)
    short = submit(lambda asked: "yes" if asked.seed > 1 else Reply(status=400), **job, quorum=4)
    assert short.state == "failed"
    assert "4 must succeed, 3 did" in short.error


# -- policies, limits ----------------------------------------------------------------------------


def test_failed_part_fails_the_job_or_is_named_as_missing(submit):
    job = {"kind": "sections", "model": "two", "items": [{"text": "good"}, {"text": "bad", "title": "Fees"}]}
    say = lambda asked: Reply(status=400) if asked.text == "bad" else "done"  # noqa: E731 - three times the same
    failed = submit(say, **job)
    assert failed.state == "failed"
    assert "every part must succeed; section 2: model 'two'" in failed.error
    partial = submit(say, **job, policy="partial")
    assert (partial.state, partial.parts_failed) == ("succeeded", 1)
    assert "[section 2 “Fees” is missing: model 'two'" in partial.output
    assert [gap["index"] for gap in partial.details["missing"]] == [1]
    quorum = submit(say, **job, policy="quorum", quorum=2)
    assert quorum.state == "failed"
    assert "2 must succeed, 1 did" in quorum.error


def test_part_that_one_model_fails_is_done_by_another(submit, voices):
    result = submit(
        lambda asked: Reply(status=500) if asked.model == "mute" else "done",
        kind="sections",
        items=["a", "b", "c", "d"],
        route="either",
    )
    assert (result.state, {part.model for part in result.parts}) == ("succeeded", {"two"})
    assert any([tried.model for tried in part.tried] == ["mute", "two"] for part in result.parts)


def test_children_share_what_is_left_of_the_budget(running, submit, voices):
    result = submit(
        lambda _: Reply("x", tokens=(1, 10)),
        kind="sections",
        items=["a", "b"],
        each={"kind": "vote", "n": 5, "model": "one", "early_stop": "off", "policy": "partial", "max_tokens": 10},
        budget_usd=0.07,
    )
    # Each has $0.035 for votes of about $0.01 that are asked at the same time.
    assert result.state == "succeeded"
    assert 0.02 < result.cost_usd <= 0.07
    child = running.producer.result(result.parts[0].job)
    assert "budget is used up" in next(part.error for part in child.parts if part.state == "failed")


def test_deadline_ends_the_job_and_all_its_child_jobs(running, submit, voices):
    result = submit(
        lambda _: HELD,
        kind="sections",
        items=["a", "b"],
        each={"kind": "vote", "n": 2, "model": "one"},
        deadline=1.0,
    )
    assert (result.state, "deadline" in result.error) == ("expired", True)
    wait_for(lambda: voices.in_flight == 0, "the end of the calls")
    children = [running.producer.result(part.job) for part in result.parts]
    wait_for(lambda: all(running.producer.result(child.id).state in FINAL for child in children), "the children's end")


@pytest.mark.parametrize(
    "shape",
    [
        {"kind": "sections", "items": ["a", "b", "c"], "model": "one"},
        {"kind": "sections", "items": ["a", "b"], "each": {"kind": "vote", "n": 3, "model": "one"}},
        {"kind": "outer", "text": "a\n\nb"},
    ],
    ids=["flat", "nested", "workflow"],
)
def test_cancelled_fan_out_stops_its_calls_within_a_second(running, voices, shape):
    voices.forget(lambda _: HELD)
    job = running.producer.submit(shape)
    wait_for(lambda: voices.in_flight >= 2, "the calls")
    assert running.producer.cancel(job.id)
    # Held for ever: whatever ends them is the cancelling.
    wait_for(lambda: voices.in_flight == 0, "the end of the calls")
    result = running.producer.result(job.id)
    assert (result.state, {part.state for part in result.parts}) == ("cancelled", {"cancelled"})
    # A part that was never sent names no job: there is none.
    children = [running.producer.result(part.job) for part in result.parts if part.job]
    assert {child.state for child in children} <= {"cancelled"}


def test_child_job_that_is_cancelled_alone_is_a_failed_part(running, voices):
    voices.forget(lambda asked: HELD if asked.text == "a" else "done")
    vote = {"kind": "vote", "n": 3, "model": "one", "early_stop": "off"}
    job = running.producer.submit({"kind": "sections", "items": ["a", "b"], "each": vote, "policy": "partial"})
    wait_for(lambda: voices.in_flight == 3, "the calls of the first")
    child = running.producer.result(job.id).parts[0].job
    assert running.producer.cancel(child)
    result = running.producer.wait(job.id, timeout=DEADLINE)
    assert (result.state, [part.state for part in result.parts]) == ("succeeded", ["failed", "succeeded"])
    assert result.parts[0].error == "its job was cancelled: cancelled by the producer"
    wait_for(lambda: voices.in_flight == 0, "the end of the calls")


def test_idempotency_key_makes_one_job_of_a_fan_out(running, submit, voices):
    job = {"kind": "sections", "items": ["a"], "each": {"kind": "vote", "n": 3, "model": "one"}}
    first = submit(lambda _: "yes", **job, idempotency_key="nested")
    asked = len(voices.asked)
    again = running.producer.submit({**job, "idempotency_key": "nested"})
    assert (again.id, again.new, len(voices.asked)) == (first.id, False, asked)


def test_impossible_job_is_refused_with_its_field(running):
    def refused(**job):
        with pytest.raises(BadInput) as error:
            running.producer.submit({"kind": "sections", "items": ["a"], **job})
        return str(error.value)

    assert refused(each={"kind": "vote"}).startswith("each.n: is needed")
    assert refused(each={"text": "x"}).startswith("each.text: can't be set by each")
    assert refused(each={"kind": "nothing"}).startswith("each.kind: 'nothing' is not known")
    deep = {"kind": "single"}
    for _ in range(6):
        deep = {"kind": "sections", "split": "paragraphs", "each": deep}
    assert "deep" in refused(each=deep)
    assert refused(items=[{"text": "a", "route": "nowhere"}]).startswith("items[0].route: 'nowhere' is not known")
    assert refused(join="majority").startswith("join: 'majority' does not go with kind 'sections'")


# -- what a user reads ---------------------------------------------------------------------------


def test_nested_job_and_its_child_jobs_are_followed_over_http(running, voices):
    voices.forget(lambda asked: "risky" if "fee" in asked.text else "fine")
    ready = running.folder / "api.ready"
    words = ("--config", str(running.config_path), "--port", "0", "--ready-file", str(ready))
    api = forked.start("producer.api", *words, env={**os.environ, **running.env})
    try:
        wait_for(ready.exists, "start of the API")
        with httpx.Client(base_url=ready.read_text().strip(), timeout=DEADLINE) as client:
            job = {"kind": "sections", "items": ["a fee", "a date"], "each": {"kind": "vote", "n": 3, "model": "one"}}
            accepted = client.post("/jobs", json=job)
            assert accepted.status_code == 202
            path = f"/jobs/{accepted.json()['id']}"
            with client.stream("GET", f"{path}/events") as events:
                text = "".join(events.iter_text())  # it ends with the job
            assert "succeeded" in text
            result = client.get(path).json()
            assert [part["output"] for part in result["parts"]] == ["risky", "fine"]
            child = client.get(f"/jobs/{result['parts'][0]['job']}").json()
            assert (child["kind"], child["output"], child["state"]) == ("vote", "risky", "succeeded")
    finally:
        api.terminate()
        api.wait(DEADLINE)


@pytest.fixture
def explained(running):
    def explain(job):
        # A runner of tests says how wide its terminal is; what goes into a pipe is as wide as it is.
        env = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | running.env
        done = forked.run("ops", "explain", job, env=env, cwd=running.folder, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return explain


def test_explain_shows_the_role_and_the_child_job_of_each_part(submit, explained):
    result = submit(
        lambda asked: Reply(status=400) if "fee" in asked.text else "yes",
        kind="sections",
        items=[{"text": "a fee", "title": "Fees"}, {"text": "a date", "title": "Dates"}],
        each={"kind": "vote", "n": 3, "model": "one"},
        policy="partial",
        join="synthesis",
        join_model="judge",
    )
    text = explained(result.id)
    assert "missing" in text
    assert "1 “Fees”: its job failed: " in text
    table = [line.split() for line in text.splitlines() if line.strip()[:1].isdigit()]
    children = [part.job for part in result.parts[:2]]
    assert [row[-1] for row in table[:2]] == children
    assert table[2][:4] == ["3", "join", "synthesis", "succeeded"]
    assert "each part is a job of its own" in text
    assert f"part of     {result.id}, part 2" in explained(children[1])


def test_explain_of_many_parts_shows_the_first_the_failed_and_the_join_s(submit, explained):
    result = submit(
        lambda asked: Reply(status=400) if asked.text == "57" else "yes",
        kind="sections",
        items=[f"{number}" for number in range(1, 61)],
        model="two",
        policy="partial",
        join="synthesis",
    )
    assert result.state == "succeeded"
    text = explained(result.id)
    listed = [line.split()[0] for line in text.splitlines() if line.strip()[:1].isdigit()]
    assert listed == [*(f"{number}" for number in range(1, 51)), "57", "61"]


def test_explain_of_a_job_whose_parts_are_jobs_names_no_model_of_its_own(submit, explained):
    text = explained(submit(lambda _: "yes", kind="inner", text="hello").id)
    assert "each part is a job of its own" in text
    assert "not chosen yet" not in text
    assert "{'" not in text  # the details of a join are JSON


def test_leases_and_messages_are_gone_when_all_is_done(running, submit):
    submit(lambda _: "yes", kind="outer", text="alpha\n\nbeta")
    redis = running.redis

    def held():
        return [
            key
            for kind in ("single", "part")
            for key in redis.keys(redis_keys.claims("*", kind=kind))
            if redis.zcard(key)
        ]

    wait_for(lambda: not held(), "the leases to be given back")
    queues = ["route", "join", *(f"model.{name}" for name in MODELS)]
    wait_for(lambda: not any(redis.llen(queue) for queue in queues), "the queues to be empty")
