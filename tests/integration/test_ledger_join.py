"""When a job can be joined: policies, quorums, early stop, and the join itself."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.contract.job import parse_job
from tasks.ledger import PartRecord, PartStatus, StagePlan, digest
from tasks.ledger.jobs import MOST_JOINS
from tasks.parallel.early_stop import StopRule, is_decided
from tasks.parallel.part_spec import PartSpec
from tasks.parallel.votes.count import Vote, count
from tasks.parallel.votes.posterior import enough_votes
from tests.harness import part_call
from tests.ledger_jobs import (
    DECISION,
    accepted,
    end_parts,
    finish,
    let_pass,
    planned,
    vote_of,
)


def test_policy_fail_completes_the_job_at_its_first_failure(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, parse_job({"kind": "sections", "items": ["a", "b", "c"]}), 3)
        await ledger.jobs.claim(job, 1, "owner")
        assert await finish(ledger, job, 1, "owner", error="refused") == ("complete", "spoilt")
        assert (await ledger.jobs.join(job)).word == "go"
        assert (await ledger.jobs.claim(job, 0, "late")) == PartStatus(0, "skipped", "fast")

    on_ledger(steps)


def test_policy_partial_waits_for_all_parts(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, parse_job({"kind": "sections", "items": ["a", "b"], "policy": "partial"}), 2)
        await ledger.jobs.claim(job, 0, "one")
        assert await finish(ledger, job, 0, "one", error="refused") == ("more", "")
        assert (await ledger.jobs.join(job)).word == "wait"
        await ledger.jobs.claim(job, 1, "two")
        assert await finish(ledger, job, 1, "two") == ("complete", "all")

    on_ledger(steps)


def test_decided_vote_goes_on_until_it_has_its_quorum(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(5, policy="quorum", quorum=4))
        words = []
        for index in range(4):
            await ledger.jobs.claim(job, index, f"owner {index}")
            words.append(await finish(ledger, job, index, f"owner {index}", ballot="yes"))
        # Three of five can't be caught, but four must succeed.
        assert words == [("more", ""), ("more", ""), ("more", ""), ("complete", "decided")]

    on_ledger(steps)


def test_join_of_fifty_starts_and_concludes_once(on_ledger):
    async def steps(ledger):
        job = await planned(ledger, vote_of(1))
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner")
        words = await asyncio.gather(*(ledger.jobs.join(job) for _ in range(50)))
        assert Counter(gate.word for gate in words) == {"go": 1, "busy": 49}
        written = await asyncio.gather(*(ledger.jobs.conclude(job, "succeeded", output=f"{n}") for n in range(50)))
        assert Counter(written) == {True: 1, False: 49}
        assert (await ledger.jobs.join(job)).word == "done"

    on_ledger(steps)


def test_join_without_an_end_is_started_again_until_it_is_poison(on_ledger, store):
    async def steps(ledger):
        job = await planned(ledger, vote_of(1))
        assert (await ledger.jobs.join(job)).word == "wait"
        assert not await ledger.jobs.conclude(job, "succeeded")
        await ledger.jobs.claim(job, 0, "owner")
        await finish(ledger, job, 0, "owner")
        for _ in range(MOST_JOINS):
            assert (await ledger.jobs.join(job)).word == "go"
            assert (await ledger.jobs.join(job)).word == "busy"
            let_pass(store, job, "joining_at", 31)
        assert (await ledger.jobs.join(job)).word == "poison"

    on_ledger(steps)


def test_vote_is_decided_between_waves_not_while_a_vote_runs(on_ledger):
    async def steps(ledger):
        job = await accepted(ledger, vote_of(9))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * 9, wave=2))
        await end_parts(ledger, job, 0)
        assert (await ledger.jobs.join(job, decided=True)).word == "wait"
        await end_parts(ledger, job, 1)
        assert (await ledger.jobs.join(job)).word == "wait"
        assert (await ledger.jobs.join(job, decided=True)).word == "go"
        assert await ledger.send_wave(job, 1) is None

    on_ledger(steps)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ballots=st.lists(st.sampled_from(["yes", "no", "perhaps", ""]), min_size=2, max_size=12),
    rule=st.sampled_from(["exact", "beta", "both", "flags", "weighted"]),
    k=st.integers(1, 12),
    weights=st.lists(st.sampled_from([0.25, 0.5, 1.0, 1.75]), min_size=12, max_size=12),
)
@example(ballots=["", "no", "no"], rule="flags", k=3, weights=[1.0] * 12)
@example(ballots=["yes", "no", "yes", "yes"], rule="beta", k=1, weights=[1.0] * 12)
def test_script_ends_a_vote_exactly_when_the_python_rule_does(on_ledger, ballots, rule, k, weights):
    n = len(ballots)
    enough = enough_votes(n, 0.9)
    stopping = {
        "exact": StopRule(exact=True),
        "beta": StopRule(exact=False, enough=enough),
        "both": StopRule(exact=True, enough=enough),
        "flags": StopRule(exact=True, flag="yes", k=min(k, n)),
        "weighted": StopRule(exact=True, heaviest=max(weights)),
    }[rule]

    async def steps(ledger):
        job = await accepted(ledger, vote_of(n, policy="partial"))
        await ledger.jobs.route(job, DECISION)
        await ledger.plan(job, DECISION.model_dump_json(), StagePlan([PartSpec("fast")] * n, stopping=stopping))
        tally: dict[str, float] = {}
        for index, ballot in enumerate(ballots):
            weight = weights[index] if rule == "weighted" else 1.0
            await ledger.jobs.claim(job, index, "owner")
            # Who casts no ballot has failed, or said nothing.
            record = PartRecord(error="failed", ballot=digest(ballot) if ballot else "", weight=weight)
            outcome, _ = await ledger.settle(
                part_call(job, index), "fast", "owner", output=ballot or None, record=record
            )
            if ballot:
                tally[ballot] = tally.get(ballot, 0.0) + weight
            left = n - index - 1
            expected = is_decided(stopping, tally, left)
            assert (outcome.word == "complete") == expected, (ballots[: index + 1], left)
            assert outcome.detail == ("all" if not left else "decided" if expected else "")
            assert await ledger.views.tally(job) == pytest.approx({digest(name): what for name, what in tally.items()})
            if expected:
                return

    on_ledger(steps)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.sampled_from(["yes", "no", "perhaps"]), min_size=1, max_size=9), order=st.randoms())
def test_early_stop_has_the_winner_of_the_full_count(on_ledger, answers, order):
    async def steps(ledger):
        job = await planned(ledger, vote_of(len(answers)))
        places = list(range(len(answers)))
        order.shuffle(places)
        counts: Counter[str] = Counter()
        for done, index in enumerate(places, start=1):
            await ledger.jobs.claim(job, index, f"owner {index}")
            word = await finish(ledger, job, index, f"owner {index}", answers[index], ballot=answers[index])
            counts[answers[index]] += 1
            left = len(answers) - done
            assert (word[0] == "complete") == is_decided(StopRule(exact=True), counts, left)
            if word[0] == "complete":
                early = count([Vote(place, answers[place], answers[place]) for place in sorted(places[:done])])
                full = count([Vote(place, answer, answer) for place, answer in enumerate(answers)])
                assert early.winner.ballot == full.winner.ballot
                return

    on_ledger(steps)
