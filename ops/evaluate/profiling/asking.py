"""Questions of an evaluation, through the queues like any other job: accepted once, waited for, read back.

A run has a name. Each question is a job whose idempotency key follows from run and question, so that asking again under
the same name takes up what was asked before and asks only what is missing, or had failed.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from producer import AsyncProducer
from tasks.contract.errors import BadInput
from tasks.contract.job import Job, parse_job
from tasks.contract.result import FINAL, Result, Usage
from tasks.ledger import digest
from tasks.workflows.check_job import check_job

#: A run's name becomes part of Redis keys and of labels.
RUN_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"

#: Failures that the next question would meet, too: the model can't be used until an operator mends it. Its
#: breaker would hold each further question back for a minute and longer.
USELESS = frozenset({"unauthorized", "model_not_found", "quota_exhausted"})

#: Jobs that are accepted, or whose state is read, in one round trip.
CHUNK = 500
#: Results that are read at once: each may hold a large text.
READ_AHEAD = 16
#: Seconds between two looks at the jobs that are waited for.
LOOK_EVERY = 0.5
#: Times that a question is asked again because the runs before had failed at it.
MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """One job to be. `key` is unlike any other of the run; `place` starts the field of an error."""

    key: str
    fields: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class EvalAnswer:
    """What came of a question. `text` is None where no model answered; `error` is then the code of the failure."""

    text: str | None
    error: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    latency_s: float | None = None
    simulated: bool = False


class NotEnded(Exception):
    """Some questions have no answer yet at the end of the time; they go on."""

    def __init__(self, left: int) -> None:
        self.left = left
        super().__init__(f"{left} jobs have not ended")


class EvalRun:
    """Asks; what it asked stands together as a batch of the run's name.

    `show` is called again and again with the number of jobs that have ended, and of all jobs. `end` is the
    `time.monotonic` after which waiting is given up.
    """

    def __init__(
        self, producer: AsyncProducer, name: str, *, show: Callable[[int, int], None], end: float | None = None
    ) -> None:
        self.name = name
        self._producer = producer
        self._show = show
        self._end = end

    async def open(self, file: str) -> None:
        """Note the batch, for `pointsman batch status`; safe to repeat."""
        at = await self._producer.ledger.fleet.now()
        await self._producer.batches.open(self.name, file=file, schedule="", at=at, keep_seconds=self._keep)

    @property
    def _keep(self) -> int:
        return self._producer.config.limits.keep_seconds

    async def ask(self, questions: Sequence[EvalQuestion]) -> list[EvalAnswer]:
        """The answers, in order, once all have ended. All questions are checked before the first is asked.

        Raises:
            BadInput: for a question that is no job, or whose key stood for another question in this run.
            Unreachable: if Redis goes away; what was asked goes on.
            NotEnded: if the time is over.
        """
        return [_answer(result) for result in await self.results(questions)]

    async def results(self, questions: Sequence[EvalQuestion]) -> list[Result | None]:
        """As `ask`, with all that is known of each job; None for one whose record is gone."""
        jobs = self.check(questions)
        ids: list[str] = []
        for start in range(0, len(questions), CHUNK):
            ids += await self._submit(questions[start : start + CHUNK], jobs[start : start + CHUNK])
        await self._wait(ids)
        return await self.read(ids)

    async def read(self, ids: Sequence[str]) -> list[Result | None]:
        """What is known of these jobs now, in order."""
        found: list[Result | None] = []
        for start in range(0, len(ids), READ_AHEAD):
            some = ids[start : start + READ_AHEAD]
            found += await asyncio.gather(*(self._producer.ledger.views.result(job) for job in some))
        return found

    async def ask_each(self, questions: Sequence[EvalQuestion]) -> list[EvalAnswer]:
        """As `ask`, but each model gets its first question before the rest.

        A model that can't be used now (its key is refused, for example) is not asked further: all its answers are that
        failure.
        """
        firsts: dict[str, int] = {}
        for place, question in enumerate(questions):
            firsts.setdefault(str(question.fields["model"]), place)
        self.check(questions)
        answered = dict(zip(firsts.values(), await self.ask([questions[at] for at in firsts.values()]), strict=True))
        useless = {model: answered[at] for model, at in firsts.items() if answered[at].error in USELESS}
        rest = [
            at
            for at, question in enumerate(questions)
            if at not in answered and str(question.fields["model"]) not in useless
        ]
        answered |= dict(zip(rest, await self.ask([questions[at] for at in rest]), strict=True))
        unasked = {model: EvalAnswer(None, answer.error) for model, answer in useless.items()}
        return [answered.get(at) or unasked[str(question.fields["model"])] for at, question in enumerate(questions)]

    def check(self, questions: Sequence[EvalQuestion]) -> list[Job]:
        """Each question as a job. Raises `BadInput` for the first that is none."""
        jobs = [self._job(question, 0) for question in questions]
        for job, question in zip(jobs, questions, strict=True):
            check_job(job, self._producer.config, at=question.place)
        return jobs

    def _job(self, question: EvalQuestion, round_: int) -> Job:
        key = f"run:{self.name}:{digest(question.key)}:{round_}"
        more = {"idempotency_key": key, "labels": {"run": self.name}, "priority": "low"}
        return parse_job({**question.fields, **more}, at=question.place)

    async def _submit(self, questions: Sequence[EvalQuestion], jobs: Sequence[Job]) -> list[str]:
        ids = [""] * len(questions)
        todo = list(range(len(questions)))
        wanted = list(jobs)
        for round_ in range(1, MOST_ROUNDS + 1):
            try:
                accepted = await self._producer.submit_many(wanted)
            except BadInput as error:
                raise self._placed(error, [questions[at] for at in todo]) from None
            for at, known in zip(todo, accepted, strict=True):
                ids[at] = known.id
            # What failed in an earlier go of this run is asked anew; what fails now is an answer.
            todo = [
                at
                for at, known in zip(todo, accepted, strict=True)
                if not known.new and known.state in FINAL and known.state != "succeeded"
            ]
            if not todo:
                break
            wanted = [self._job(questions[at], round_) for at in todo]
        await self._producer.batches.add(self.name, ids, keep_seconds=self._keep)
        return ids

    def _placed(self, error: BadInput, questions: Sequence[EvalQuestion]) -> BadInput:
        match = re.match(r"\[(\d+)\]\.?", error.field)
        question, field = (
            (questions[int(match[1])], error.field[match.end() :]) if match else (questions[0], error.field)
        )
        if field == "idempotency_key":
            return BadInput(
                "run",
                f"{self.name!r} asked something else at {question.place}",
                "take another name, or leave --run out",
            )
        return BadInput(f"{question.place}.{field}", error.problem, error.remedy)

    async def _wait(self, ids: Sequence[str]) -> None:
        left = list(ids)
        while True:
            began = time.monotonic()
            states: list[str | None] = []
            for start in range(0, len(left), CHUNK):
                states += await self._producer.ledger.views.states(left[start : start + CHUNK])
            left = [job for job, state in zip(left, states, strict=True) if state is not None and state not in FINAL]
            self._show(len(ids) - len(left), len(ids))
            if not left:
                return
            now = time.monotonic()
            if self._end is not None and now >= self._end:
                raise NotEnded(len(left))
            # The looks take at most a quarter of the time, however many jobs there are.
            pause = max(LOOK_EVERY, 3 * (now - began))
            await asyncio.sleep(pause if self._end is None else min(pause, self._end - now))


def _answer(result: Result | None) -> EvalAnswer:
    if result is None:
        return EvalAnswer(None, "gone")
    part = result.parts[0] if result.parts else None
    if result.state != "succeeded" or part is None:
        tried = part.tried[-1].error if part is not None and part.tried else None
        code = result.state if result.state in {"cancelled", "expired"} else tried or "failed"
        return EvalAnswer(None, code, result.usage, result.cost_usd, simulated=result.simulated)
    return EvalAnswer(
        part.output or "",
        usage=result.usage,
        cost_usd=result.cost_usd,
        latency_s=part.latency_s,
        simulated=result.simulated,
    )
