"""A lazy fit: once, off the event loop, shared by concurrent callers."""

from __future__ import annotations

import asyncio
import threading

from tasks.contract.errors import ConfigError
from worker.runtime import LazyFit


def test_lazy_fit_runs_once_in_a_thread_for_concurrent_callers():
    threads = []

    def fit():
        threads.append(threading.get_ident())
        return object()

    lazy_fit = LazyFit(fit)

    async def ask():
        return [*await asyncio.gather(*(lazy_fit() for _ in range(20))), await lazy_fit()]

    fitted = asyncio.run(ask())

    assert len({id(cascade) for cascade in fitted}) == 1
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_lazy_fit_goes_on_when_one_caller_is_cancelled():
    go_on = threading.Event()

    def fit():
        assert go_on.wait(30)
        return object()

    lazy_fit = LazyFit(fit)

    async def ask():
        first, second = (asyncio.ensure_future(lazy_fit()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        return first.cancelled(), await second

    cancelled, cascade = asyncio.run(ask())

    assert cancelled
    assert cascade is not None


def test_lazy_fit_that_fails_raises_for_all_and_is_tried_again():
    fits = []

    def fit():
        fits.append(True)
        if len(fits) == 1:
            raise ConfigError("classifier.encoder: is away")
        return object()

    lazy_fit = LazyFit(fit)

    async def ask():
        failed = await asyncio.gather(*(lazy_fit() for _ in range(3)), return_exceptions=True)
        return failed, await lazy_fit()

    failed, cascade = asyncio.run(ask())

    assert [str(error) for error in failed] == ["classifier.encoder: is away"] * 3
    assert cascade is not None
    assert len(fits) == 2
