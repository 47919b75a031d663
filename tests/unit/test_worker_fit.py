"""What a router fits: once, off the event loop, for all who ask meanwhile."""

from __future__ import annotations

import asyncio
import threading

from tasks.contract.errors import ConfigError
from worker.fitting import Fitted


def test_many_who_ask_at_once_wait_for_one_fit_in_a_thread():
    threads = []

    def fit():
        threads.append(threading.get_ident())
        return object()

    fitted_once = Fitted(fit)

    async def ask():
        return [*await asyncio.gather(*(fitted_once() for _ in range(20))), await fitted_once()]

    fitted = asyncio.run(ask())

    assert len({id(cascade) for cascade in fitted}) == 1
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


def test_one_that_is_cancelled_while_it_waits_does_not_stop_the_fit():
    go_on = threading.Event()

    def fit():
        assert go_on.wait(30)
        return object()

    fitted_once = Fitted(fit)

    async def ask():
        first, second = (asyncio.ensure_future(fitted_once()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        go_on.set()
        return first.cancelled(), await second

    cancelled, cascade = asyncio.run(ask())

    assert cancelled
    assert cascade is not None


def test_a_fit_that_fails_is_told_to_all_who_wait_and_tried_again_for_the_next():
    fits = []

    def fit():
        fits.append(True)
        if len(fits) == 1:
            raise ConfigError("classifier.encoder: is away")
        return object()

    fitted_once = Fitted(fit)

    async def ask():
        failed = await asyncio.gather(*(fitted_once() for _ in range(3)), return_exceptions=True)
        return failed, await fitted_once()

    failed, cascade = asyncio.run(ask())

    assert [str(error) for error in failed] == ["classifier.encoder: is away"] * 3
    assert cascade is not None
    assert len(fits) == 2
