"""The ledger and its server: forgotten scripts, bursts, a server that is gone."""

from __future__ import annotations

import asyncio
import time

import pytest

from ops.embedded.valkey import ValkeyServer
from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import CallId, Job
from tasks.ledger import Claim, Ledger, PartRecord, StagePlan
from tasks.parallel.part_spec import PartSpec
from tasks.routing.snapshot import Preference
from tests import redis_keys
from tests.harness import part_call, ranked
from tests.ledger_jobs import (
    DECISION,
    KEEP,
    MODELS,
    finish,
    planned,
    single,
    vote_of,
)


def test_scripts_are_loaded_again_on_a_server_that_forgot_them(on_ledger, store):
    async def steps(ledger):
        job = await planned(ledger, vote_of(3))
        store.script_flush()
        assert (await ledger.jobs.claim(job, 0, "owner")).attempt == 1
        store.script_flush()
        assert (await finish(ledger, job, 0, "owner", ballot="yes"))[0] == "more"
        store.script_flush()
        jobs = [Job(text="x") for _ in range(100)]
        assert await ledger.accept(jobs, keep_seconds=KEEP) == ["accepted"] * 100

    on_ledger(steps)


def test_burst_of_more_steps_than_connections_waits(server):
    async def burst():
        ledger = Ledger(server.url, MODELS, connections=4)
        try:
            job = await single(ledger)
            replies = await asyncio.gather(*(ledger.jobs.claim(job, 0, f"owner {n}") for n in range(200)))
            assert sum(isinstance(reply, Claim) for reply in replies) == 1
        finally:
            await ledger.close()

    asyncio.run(burst())


def test_listeners_do_not_take_the_connections_of_commands(server):
    async def waits():
        ledger = Ledger(server.url, MODELS, connections=4)
        try:
            job = await single(ledger)
            channels = [ledger.views.announcements(job) for _ in range(20)]
            open_ = [await channel.__aenter__() for channel in channels]
            await ledger.jobs.claim(job, 0, "owner")
            for channel in open_:
                while (message := await channel.get_message(timeout=10)) is None:
                    pass  # the confirmation of the subscription
                assert message["data"] == "running"
            for channel in channels:
                await channel.__aexit__(None, None, None)
        finally:
            await ledger.close()

    asyncio.run(waits())


def test_server_that_is_gone_raises_unreachable_in_bounded_time(tmp_path):
    server = ValkeyServer(tmp_path / "state")
    server.start()

    async def steps():
        ledger = Ledger(server.url, MODELS)
        try:
            job = await single(ledger)
            server.stop()
            begun = time.monotonic()
            with pytest.raises(Unreachable, match="is it running"):
                await ledger.jobs.claim(job, 0, "owner")
            with pytest.raises(Unreachable):
                await ledger.settle(CallId(job, 0), "fast", "owner", output="x", record=PartRecord())
            assert time.monotonic() - begun < 5
        finally:
            await ledger.close()

    try:
        asyncio.run(steps())
    finally:
        server.stop()


def test_scripts_touch_the_keys_of_their_own_tag_alone(server, store):
    job = Job(text="x")
    vote = vote_of(3)

    async def steps(user, function):
        ledger = Ledger(server.url.replace("unix://", f"unix://{user}:pw@"), MODELS)
        try:
            return await function(ledger)
        finally:
            await ledger.close()

    async def of_jobs(ledger):
        jobs = ledger.jobs
        await ledger.store.run(jobs.accept(job, keep_seconds=KEEP), jobs.accept(vote, keep_seconds=KEEP))
        await jobs.route(job.id, DECISION, placed="waiting")
        await jobs.queue(job.id, [(0, "fast")])
        assert (await jobs.claim(job.id, 0, "one")).attempt == 1
        assert await jobs.retry(job.id, 0, "one", PartRecord(error="429"))
        await jobs.requeue(job.id, 0, "one")
        await jobs.stop(job.id, "cancelled")
        await jobs.route(vote.id, DECISION)
        await ledger.store.run(*jobs.plan(vote.id, DECISION.model_dump_json(), StagePlan([PartSpec("fast")], wave=1)))
        await jobs.claim(vote.id, 0, "one")
        await jobs.finish(vote.id, 0, "one", output="x", record=PartRecord(ballot="b"))
        assert (await jobs.join(vote.id)).word == "go"
        assert await jobs.conclude(vote.id, "succeeded", output="x")
        with pytest.raises(PointsmanError, match=r"(?i)permission"):
            await ledger.fleet.tick()

    async def of_the_fleet(ledger):
        fleet, call, part = ledger.fleet, CallId(job.id, 0), part_call(vote.id, 0)
        await fleet.configure({"fast": 1})
        await fleet.scale("fast", 2)
        await fleet.admit(call, ranked([Preference("fast", 0.0)]), priority="normal")
        await fleet.lease({"fast": [call, part]})
        await fleet.lease_left(call, "fast")
        await fleet.delay(call, "fast", ranked([Preference("fast", 0.0)]), priority="low", seconds=0)
        await fleet.tick()
        await fleet.find([call, part])
        await fleet.lapsed()
        await fleet.forget([])
        await fleet.release(call, "fast")
        await fleet.withdraw([call, part])
        await fleet.snapshot(turn="r")
        await fleet.watch({job.id: 1.0})
        await fleet.due()
        await fleet.unwatch([job.id])
        await fleet.cancel(job.id)
        await fleet.cancelled()
        assert await fleet.lead("acl", "me", seconds=1)
        await fleet.scale("fast", None)
        with pytest.raises(PointsmanError, match=r"(?i)permission"):
            await ledger.jobs.stop(job.id, "failed")

    for user, patterns, function in (
        ("jobs", [f"~{redis_keys.all_of_job(one.id)}" for one in (job, vote)], of_jobs),
        ("fleet", [f"~{redis_keys.fleet('*')}"], of_the_fleet),
    ):
        store.execute_command("ACL", "SETUSER", user, "on", ">pw", "+@all", "&*", "resetkeys", *patterns)
        asyncio.run(steps(user, function))
        store.acl_deluser(user)
