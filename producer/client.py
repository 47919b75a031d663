"""Step 1 of a job's way: submit, straight to the broker. For code inside the application's own environment.

Other services use HTTP (`producer.api`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from tasks.accept import Accepted, accept
from tasks.config.config import Config
from tasks.contract.errors import PointsmanError, Unreachable
from tasks.contract.job import CallId, Job, parse_job
from tasks.contract.result import FINAL, Result
from tasks.ledger import Ledger
from tasks.ledger.batches import Batches
from tasks.loading.load import load
from tasks.queue.address import redis_url
from tasks.queue.app import make_app
from tasks.queue.publisher import Publisher
from tasks.workflows.ask_route import cancel_question
from tasks.workflows.check_job import check_documents, check_job

T = TypeVar("T")

#: Most seconds between two reads of the record while waiting: announcements come sooner, but one may be missed.
READ_EVERY = 1.0
#: Jobs and items above which a thread checks them: each may bring a schema of its own, which takes milliseconds.
MANY = 100
#: Characters of a text above which a thread cuts it.
LONG = 20_000


class JobNotFound(PointsmanError):
    """No job of that id: never accepted, or past the time that records are kept."""

    code = "not_found"

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id!r}; it was never accepted, or its record has expired")


class AsyncProducer:
    """Submits jobs and reads results, on one event loop. Use it with ``async with``."""

    def __init__(self, config: Config | Path | str, *, redis: str | None = None) -> None:
        """`config` is the configuration or its file; `redis` is a URL, by default that of the environment."""
        self.config = config if isinstance(config, Config) else load(config)
        url = redis or redis_url()
        self.ledger = Ledger(url, tuple(self.config.models), connections=256)
        self.batches = Batches(self.ledger.store)
        self._publisher = Publisher(self.ledger.store, make_app("pointsman-producer", url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.ledger.close()

    async def submit(self, job: Job | Mapping[str, Any]) -> Accepted:
        """Submit one job. When this returns, the job is in the ledger and will end.

        Raises:
            BadInput: naming field and remedy; nothing was accepted.
            Unreachable: if Redis does not answer within the bound.
        """
        (accepted,) = await self.submit_many([job])
        return accepted

    async def submit_many(self, jobs: Sequence[Job | Mapping[str, Any]]) -> list[Accepted]:
        """Submit several jobs in one round trip, in order: all of them or, on bad input, none."""
        alone = len(jobs) == 1
        read = [
            job if isinstance(job, Job) else parse_job(job, at="" if alone else f"[{place}]")
            for place, job in enumerate(jobs)
        ]
        read = await self.read_files(read)
        if not read:
            return []
        long = any(job.kind != "single" and len(job.text or "") > LONG for job in read)
        if long or len(read) + sum(len(job.items or ()) for job in read) > MANY:
            await asyncio.to_thread(self._check, read)
        else:
            self._check(read)
        return await accept(read, ledger=self.ledger, publisher=self._publisher, config=self.config)

    def _check(self, jobs: Sequence[Job]) -> None:
        for place, job in enumerate(jobs):
            at = "" if len(jobs) == 1 else f"[{place}]"
            check_job(job, self.config, at=at)
            if job.text is not None and job.kind != "single":
                check_documents(job, self.config, at=at)

    async def read_files(self, jobs: Sequence[Job]) -> list[Job]:
        """The jobs with their files replaced by the files' texts, in order; `submit` and `submit_many` do it too.

        Raises:
            BadInput: naming the file that can't be read.
        """
        if all(job.files is None for job in jobs):
            return list(jobs)
        from tasks.parallel.job_files import replace_files_of_jobs  # noqa: PLC0415 - few jobs bring documents

        return await replace_files_of_jobs(jobs, self.config, at=lambda place: "" if len(jobs) == 1 else f"[{place}]")

    async def result(self, job_id: str) -> Result:
        """The present state of a job, with the outputs so far.

        Raises:
            JobNotFound: if there is no such job.
        """
        result = await self.ledger.views.result(job_id)
        if result is None:
            raise JobNotFound(job_id)
        return result

    async def watch(self, job_id: str, *, timeout: float | None = None) -> AsyncIterator[Result]:
        """Yield the job whenever it may have changed, until it has ended.

        Raises:
            JobNotFound: if there is no such job.
            Unreachable: if Redis stops answering.
            TimeoutError: if the job hasn't ended after `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            async with self.ledger.views.announcements(job_id) as channel:
                while True:
                    result = await self.result(job_id)
                    yield result
                    if result.state in FINAL:
                        return
                    left = READ_EVERY if end is None else min(READ_EVERY, end - time.monotonic())
                    if left <= 0:
                        raise TimeoutError(f"job {job_id} is {result.state} after {timeout:g} s")
                    if await channel.get_message(timeout=left) is not None:
                        # One read serves all announcements that came together.
                        while await channel.get_message(timeout=0) is not None:
                            pass
        except RedisError as error:
            raise _unreachable(error) from error

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Result:
        """The result once the job has ended; raises as `watch` does.

        Until then only the job's state is read: the job may have thousands of parts, and each is announced.
        """
        end = None if timeout is None else time.monotonic() + timeout
        try:
            async with self.ledger.views.announcements(job_id) as channel:
                while (state := (await self.ledger.views.states([job_id]))[0]) not in FINAL:
                    if state is None:
                        raise JobNotFound(job_id)
                    left = READ_EVERY if end is None else min(READ_EVERY, end - time.monotonic())
                    if left <= 0:
                        raise TimeoutError(f"job {job_id} is {state} after {timeout:g} s")
                    await _until_final(channel, left)
        except RedisError as error:
            raise _unreachable(error) from error
        return await self.result(job_id)

    async def cancel(self, job_id: str) -> bool:
        """End a job as ``cancelled`` and stop its calls; False if it had ended already."""
        (summary,) = await self.ledger.views.summaries([job_id])
        word = await self.ledger.cancel(job_id, "cancelled", "cancelled by the producer")
        if word == "gone" or summary is None:
            raise JobNotFound(job_id)
        if word == "final":
            return False
        if summary.n is None and self.config.classifier.llm is not None:
            await cancel_question(self.ledger, job_id)
        if summary.parent is not None:
            # If this fails the sweeper sends it.
            with contextlib.suppress(Unreachable):
                await self._publisher.send_finish_parts([CallId.parse(summary.parent)])
        return True


async def _until_final(channel: PubSub, seconds: float) -> None:
    """Wait until an announcement of a final state, for so many seconds at most."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        message = await channel.get_message(timeout=left)
        if message is not None and message["data"] in FINAL:
            return


def _unreachable(error: RedisError) -> Unreachable:
    return Unreachable(f"Redis does not answer ({type(error).__name__}); the job goes on without us")


class Producer:
    """An `AsyncProducer` for code that blocks: the same methods, on an event loop in a thread of its own."""

    def __init__(self, config: Config | Path | str, *, redis: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pointsman-producer", daemon=True)
        self._thread.start()
        try:
            self._async = self._run(_make(config, redis))
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._async.close())
        self._stop()

    def submit(self, job: Job | Mapping[str, Any]) -> Accepted:
        return self._run(self._async.submit(job))

    def submit_many(self, jobs: Sequence[Job | Mapping[str, Any]]) -> list[Accepted]:
        return self._run(self._async.submit_many(jobs))

    def result(self, job_id: str) -> Result:
        return self._run(self._async.result(job_id))

    def wait(self, job_id: str, *, timeout: float | None = None) -> Result:
        return self._run(self._async.wait(job_id, timeout=timeout))

    def cancel(self, job_id: str) -> bool:
        return self._run(self._async.cancel(job_id))

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


async def _make(config: Config | Path | str, redis: str | None) -> AsyncProducer:
    return AsyncProducer(config, redis=redis)
