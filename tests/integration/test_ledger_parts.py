"""The steps that plan parts in stages and send them in waves."""

from __future__ import annotations

from collections import Counter

import pytest

from tasks.contract.job import CallId, Job, parse_job
from tasks.ledger import WAVE, PartRecord, PartStatus, StagePlan
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.harness import part_call
from tests.ledger_jobs import (
    DECISION,
    accepted,
    end_parts,
    finish,
    planned,
    state_of,
    vote_of,
)


def test_parts_are_planned_once(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        assert (await ledger.plan(job, "{}", StagePlan([PartSpec("slow")] * 5)))[0] == "planned"
        assert len((await ledger.views.result(job)).parts) == 3

    on_ledger(steps)


@pytest.mark.parametrize("parts", [10_000, 100_000])
def test_plan_of_many_parts_is_read_again(on_ledger, parts):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["x"]}))
        await ledger.jobs.route(job, DECISION)
        text = "x" * 100
        plans = [PartSpec("fast", f"item {index}", f"{index} {text}") for index in range(parts)]
        assert (await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans)))[0] == "ok"
        claim = await ledger.jobs.claim(job, parts - 1, "owner")
        assert claim.part.text == f"{parts - 1} {text}"
        states = Counter(part.state for part in await ledger.views.statuses(job, 0, parts))
        assert states == {"queued": WAVE, "waiting": parts - WAVE - 1, "running": 1}
        assert await ledger.fleet.find([part_call(job, index) for index in (0, WAVE - 1, WAVE)]) == [
            "part", "part", "nowhere",
        ]  # fmt: skip
        # All keys go, whatever the other tests see.
        await ledger.jobs.stop(job, "cancelled")
        await ledger.fleet.withdraw([part_call(job, index) for index in range(parts)])
        assert await ledger.fleet.find([part_call(job, 0)]) == ["nowhere"]

    on_ledger(steps)


def test_later_wave_is_sent_once_and_not_for_an_ended_job(on_ledger):
    async def steps(ledger):
        plans = parse_job({"kind": "sections", "items": ["x"] * (WAVE + 2)})
        job = await planned(ledger, plans, WAVE + 2)
        sent = [PartStatus(index, "queued", "fast", "") for index in (WAVE, WAVE + 1)]
        assert await ledger.send_wave(job, 1) == (1, sent)
        assert await ledger.send_wave(job, 1) is None
        assert [part.state for part in await ledger.views.statuses(job, WAVE, 2)] == ["queued", "queued"]
        ended = await planned(ledger, plans.model_copy(update={"id": Job(text="x").id}), WAVE + 2)
        await ledger.jobs.stop(ended, "cancelled")
        assert await ledger.send_wave(ended, 1) is None

    on_ledger(steps)


def test_stages_are_joined_when_their_own_parts_have_ended(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "text": "x", "split": "plan"}))
        await ledger.jobs.route(job, DECISION)
        plan = DECISION.model_dump_json()
        assert (await ledger.plan(job, plan, StagePlan([PartSpec("fast")], role="plan")))[1] == 0
        assert (await ledger.jobs.join(job)).word == "wait"
        assert await end_parts(ledger, job, 0) == ("complete", "all")
        assert (await ledger.jobs.join(job)).word == "go"
        sections = [PartSpec("fast", "a", "A"), PartSpec("fast", "b", "B")]
        assert (await ledger.plan(job, plan, StagePlan(sections, first=1)))[1] == 1
        assert await state_of(ledger, job) == "running"
        assert (await ledger.plan(job, plan, StagePlan(sections, first=1)))[0] == "planned"
        claim = await ledger.jobs.claim(job, 2, "owner 2")
        # The plan is no section: they are counted without it.
        assert (claim.first, claim.total, claim.part.text) == (1, 2, "B")
        assert await end_parts(ledger, job, 1, 2) == ("complete", "all")
        for first in (3, 5):
            assert (await ledger.jobs.join(job)).word == "go"
            asked = [PartSpec("slow", "ask", "Which?")] * 2
            assert (await ledger.plan(job, "", StagePlan(asked, first=first, role="join")))[2][0].index == first
            # Under the policy fail, too: what becomes of a question is for the join to say.
            assert await end_parts(ledger, job, first, error="refused") == ("more", "")
            assert await end_parts(ledger, job, first + 1) == ("complete", "all")
        assert (await ledger.jobs.join(job)).word == "go"
        assert await ledger.jobs.conclude(job, "succeeded", output="joined")
        return await ledger.views.progress(job), await ledger.views.result(job)

    progress, result = on_ledger(steps)
    assert [part.role for part in result.parts] == ["plan", "", "", "join", "join", "join", "join"]
    assert (result.parts_total, result.parts_failed, result.output) == (7, 0, "joined")
    assert (progress.base, progress.starts) == (1, (0, 1, 3, 5))
    assert [(stage.role, stage.first, stage.count) for stage in progress.stages] == [
        ("plan", 0, 1), ("", 1, 2), ("join", 3, 2), ("join", 5, 2),
    ]  # fmt: skip


def test_waves_of_any_size_cover_each_part_once_in_order(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(9, policy="partial"))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * 9, wave=2))
        done = 0
        for number, size in ((1, 1), (2, 4), (3, 100)):
            sent_before = (await ledger.views.progress(job)).sent
            await end_parts(ledger, job, *range(done, sent_before))
            done = sent_before
            gate = await ledger.jobs.join(job)
            assert (gate.word, gate.wave_ended, gate.waves) == ("wait", True, number)
            _, sent = await ledger.send_wave(job, number, size=size)
            assert [part.index for part in sent] == list(range(done, min(done + size, 9)))
            assert await ledger.send_wave(job, number, size=size) is None
            assert not (await ledger.jobs.join(job)).wave_ended
        assert await end_parts(ledger, job, *range(done, 9)) == ("complete", "all")
        assert await ledger.send_wave(job, 4, size=1) is None
        assert (await ledger.views.progress(job)).starts == (0, 2, 3, 7)

    on_ledger(steps)


def test_wave_of_an_unplanned_job_is_not_sent(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(3))
        await ledger.jobs.route(job, DECISION)
        assert await ledger.send_wave(job, 0) is None
        assert await ledger.send_wave(job, 1) is None

    on_ledger(steps)


def test_parts_written_in_several_steps_are_visible_once_planned(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["x"]}))
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast", "", f"{index}") for index in range(2500)]
        *written, last = ledger.jobs.plan(job, DECISION.model_dump_json(), StagePlan(plans, wave=10))
        assert len(written) == 3
        for command in written:
            await command
            # Its router may die here: nothing can be ended, joined or sent, and no reader sees a part.
            assert (await ledger.jobs.join(job)).word == "wait"
            assert await ledger.send_wave(job, 0) is None
            assert (await finish(ledger, job, 0, "owner"))[0] == "gone"
            result = await ledger.views.result(job)
            assert (result.parts_total, result.parts) == (0, ())
        assert (await last)[0] == "ok"
        # Another router that planned the same at that time comes too late.
        others = [PartSpec("slow", "", "other")] * 2500
        replies = await ledger.store.run(*ledger.jobs.plan(job, "{}", StagePlan(others, wave=10)))
        assert set(replies) == {("planned", None)}
        claim = await ledger.jobs.claim(job, 2499, "owner")
        assert (claim.part.text, claim.part.model, claim.total) == ("2499", "fast", 2500)

    on_ledger(steps)


def test_part_with_a_child_job_has_no_lease_and_ends_with_the_child(on_ledger, store):
    async def steps(ledger):
        job = await accepted(
            ledger, parse_job({"kind": "sections", "items": ["a", "b", "c", "d"], "policy": "partial"})
        )
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast"), *(PartSpec("", job=f"child {index}") for index in (1, 2, 3))]
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans, wave=3))
        assert await ledger.views.statuses(job, 0, 4) == [
            PartStatus(0, "queued", "fast"),
            PartStatus(1, "running", "", "child 1", "child 1"),
            PartStatus(2, "running", "", "child 2", "child 2"),
            PartStatus(3, "waiting", "", "child 3", "child 3"),
        ]
        assert await ledger.fleet.find([CallId(job, index, 0) for index in range(3)]) == ["part", "nowhere", "nowhere"]
        assert store.keys(redis_keys.claims("", kind="part")) == []
        # What was not sent names no job: there is none yet.
        assert [part.job for part in (await ledger.views.result(job)).parts] == [None, "child 1", "child 2", None]
        assert await ledger.views.children(job) == ["child 1", "child 2", "child 3"]
        (summary,) = await ledger.views.summaries([job])
        assert summary.has_children

        async def end(index, child, output, **how):
            return await ledger.jobs.finish(job, index, child, output=output, record=PartRecord(**how))

        assert await end(1, "child 2", None) == ("stale", "")
        assert await end(1, "child 1", "one") == ("more", "")
        assert await end(1, "child 1", "again") == ("final", "succeeded")
        assert await end(2, "child 2", None, skipped=True, never_created=True) == ("more", "")
        await end_parts(ledger, job, 0)
        assert (await ledger.jobs.join(job)).wave_ended
        assert (await ledger.send_wave(job, 1))[1] == [PartStatus(3, "running", "", "child 3", "child 3")]
        assert await end(3, "child 3", None) == ("complete", "all")
        return await ledger.views.result(job)

    result = on_ledger(steps)
    assert [part.state for part in result.parts] == ["succeeded", "succeeded", "skipped", "failed"]
    assert [part.job for part in result.parts] == [None, "child 1", None, "child 3"]
    assert result.parts_failed == 1


def test_part_that_failed_before_it_was_sent_is_counted_by_the_plan(on_ledger):
    async def steps(ledger, policy):
        job = await accepted(ledger, parse_job({"kind": "sections", "items": ["a", "b"], "policy": policy}))
        await ledger.jobs.route(job, DECISION)
        plans = [PartSpec("fast"), PartSpec("", error="too long")]
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan(plans))
        gate = await ledger.jobs.join(job)
        result = await ledger.views.result(job)
        return gate.word, [(part.state, part.error) for part in result.parts], result.parts_failed

    parts = [("queued", None), ("failed", "too long")]
    assert on_ledger(lambda ledger: steps(ledger, "partial")) == ("wait", parts, 1)
    assert on_ledger(lambda ledger: steps(ledger, "fail")) == ("go", parts, 1)
