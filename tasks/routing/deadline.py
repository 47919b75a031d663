"""Whether a model can end a call before its job's deadline: what is expected of its queue. Pure."""

from __future__ import annotations

from tasks.routing.snapshot import INFINITE, ModelLoad


def estimate_wait_s(load: ModelLoad, *, before: int | None = None) -> float:
    """Seconds until a call starts there that has `before` others in front (by default all there are), running ones too.

    With all c slots busy by calls of mean length L one ends every L / c seconds (Little's law), so a call with n in
    front of it starts after (n - c + 1) · L / c. L is the model's peak EWMA: the estimate errs to the late side. With a
    slot free it starts at once, without capacity never. Of a model that has not answered yet nothing is known but how
    long calls stood in its queue.
    """
    if not load.capacity:
        return INFINITE
    must_end = (load.pending + load.bound if before is None else before) - load.capacity + 1
    if must_end <= 0:
        return 0.0
    return load.queue_wait_s if load.latency_s is None else must_end * load.latency_s / load.capacity


def estimate_total_s(load: ModelLoad, *, before: int | None = None) -> float:
    """Seconds until such a call has its answer; what an unseen model takes is not counted."""
    return estimate_wait_s(load, before=before) + (load.latency_s or 0.0)


def is_too_late(load: ModelLoad, left_s: float | None, *, before: int | None = None) -> bool:
    """Whether such a call is expected to end later than in `left_s` seconds; None: its job has no deadline."""
    return left_s is not None and estimate_total_s(load, before=before) > left_s
