"""The way to the broker. Messages carry ids and small integers; texts stay in the ledger.

Every message has a name of its own that says what it is about: publishing it again after a loss makes the same
message, so a chord counts it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from celery import chord, group
from kombu.exceptions import OperationalError

from tasks.errors import Unreachable
from tasks.ledger.fleet import WAVE, Admitted, CallId
from tasks.queue.app import JOIN, ROUTE, model_queue

if TYPE_CHECKING:
    from celery import Celery
    from celery.canvas import Signature

__all__ = ["Publisher", "Task"]

#: kombu's Redis transport: 0 goes first. Only the route queue needs it; the backlog orders what waits for models.
_BROKER_PRIORITY = {"high": 0, "normal": 3, "low": 6}


@dataclass(frozen=True, slots=True)
class Task:
    """One message."""

    name: str
    id: str
    queue: str
    kwargs: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)


class Publisher:
    """Publishes on one application. Blocks on the network: never call it on an event loop's thread."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def route(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Have these jobs (id, priority) routed."""
        self._send(
            Task("tasks.route", f"{job}.route", ROUTE, {"job_id": job}, {"priority": _BROKER_PRIORITY[priority]})
            for job, priority in jobs
        )

    def fanout(self, job: str, *, wave: int = 0) -> None:
        """Have the parts of this wave sent."""
        self._send([Task("tasks.fanout", f"{job}.fanout.{wave}", ROUTE, {"job_id": job, "wave": wave})])

    def calls(self, admitted: Iterable[Admitted]) -> None:
        """Put calls into the queues of their models; parts of fan-outs stay parts of their chord."""
        self._send(self._call(call, model) for call, model in admitted)

    def chord(self, job: str, wave: int, models: Sequence[str]) -> None:
        """Send one wave of a fan-out: a chord of calls, the i-th to ``models[i]``, whose callback is the join."""
        first = wave * WAVE
        header = [
            self._app.signature(
                "tasks.call",
                kwargs={"job_id": job, "index": index, "wave": wave},
                options={"task_id": str(CallId(job, index, wave)), "queue": model_queue(model)},
                immutable=True,
            )
            for index, model in enumerate(models, start=first)
        ]
        try:
            chord(
                group(header, app=self._app, task_id=_chord_id(job, wave)),
                self._join_signature(job, wave),
                app=self._app,
            ).apply_async()
        except (OperationalError, OSError) as error:
            raise _unreachable(error) from error

    def join(self, job: str, *, wave: int = 0) -> None:
        """Have a job's parts joined; harmless where they can't be yet, or were."""
        self._send([Task("tasks.join", _join_id(job, wave), JOIN, {"job_id": job, "wave": wave})])

    def _call(self, call: CallId, model: str) -> Task:
        kwargs: dict[str, Any] = {"job_id": call.job, "index": call.index}
        options: dict[str, Any] = {}
        if call.wave is not None:
            kwargs["wave"] = call.wave
            options = {
                "group_id": _chord_id(call.job, call.wave),
                "group_index": call.index - call.wave * WAVE,
                "chord": self._join_signature(call.job, call.wave),
            }
        return Task("tasks.call", str(call), model_queue(model), kwargs, options)

    def _join_signature(self, job: str, wave: int) -> Signature[Any]:
        return self._app.signature(
            "tasks.join",
            kwargs={"job_id": job, "wave": wave},
            options={"task_id": _join_id(job, wave), "queue": JOIN},
            immutable=True,
        )

    def _send(self, tasks: Iterable[Task]) -> None:
        try:
            with self._app.producer_or_acquire() as producer:
                for task in tasks:
                    self._app.send_task(
                        task.name,
                        kwargs=task.kwargs,
                        task_id=task.id,
                        queue=task.queue,
                        producer=producer,
                        ignore_result=True,
                        **task.options,
                    )
        except (OperationalError, OSError) as error:
            raise _unreachable(error) from error


def _chord_id(job: str, wave: int) -> str:
    return f"{job}.wave.{wave}"


def _join_id(job: str, wave: int) -> str:
    return f"{job}.join.{wave}"


def _unreachable(error: BaseException) -> Unreachable:
    return Unreachable(f"the broker does not answer ({type(error).__name__}); is it running?")
