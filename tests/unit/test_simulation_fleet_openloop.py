"""Requests in an open loop: the same moments for all, latency from the moment that was meant."""

from __future__ import annotations

import asyncio

import pytest

from ops.bench.openloop import arrivals, paced, summarize


def test_moments_follow_from_the_seed_and_keep_the_rate():
    moments = arrivals(40.0, 20_000, seed=3)
    assert moments == arrivals(40.0, 20_000, seed=3) != arrivals(40.0, 20_000, seed=4)
    assert moments == sorted(moments)
    assert 20_000 / moments[-1] == pytest.approx(40, rel=0.03)


def test_request_that_hangs_holds_up_none_of_those_that_come_after():
    freed, began = asyncio.Event(), []

    async def one(number, due):
        began.append(number)
        if number == 0:
            await freed.wait()
        elif number == 4:
            freed.set()
        return number, due

    async def run():
        return await asyncio.wait_for(paced([0.0, 0.001, 0.002, 0.003, 0.004], one), 30)

    found, late = asyncio.run(run())
    assert began == [0, 1, 2, 3, 4]
    assert [number for number, _ in found] == began
    dues = [due for _, due in found]
    assert [due - dues[0] for due in dues] == pytest.approx([0.0, 0.001, 0.002, 0.003, 0.004])
    assert len(late) == 5
    assert min(late) >= 0


def test_failed_request_counts_as_slow():
    summary = summarize([0.1] * 96 + [2.0, 3.0, None, None], [0.0] * 99 + [1.0])
    assert (summary["requests"], summary["failed"]) == (100, 2)
    assert summary["over_1s"] == pytest.approx(0.04)
    assert summary["p50_s"] == pytest.approx(0.1)
    assert 0 < summary["late_p99_s"] < 1


def test_round_in_which_everything_failed_has_no_percentiles():
    assert "p99_s" not in summarize([None, None], [0.0, 0.0])
