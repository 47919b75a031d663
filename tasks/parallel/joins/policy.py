"""What a job's policy makes of parts that failed."""

from __future__ import annotations

from typing import Literal

from tasks.contract.errors import BadInput

__all__ = ["check_policy"]


def check_policy(
    policy: Literal["fail", "partial", "quorum"],
    quorum: int | None,
    succeeded: int,
    failed: int,
    *,
    parts: int | None = None,
) -> str | None:
    """None when a job with so many parts `succeeded` and `failed` may be joined, else the sentence why it failed.

    ``fail``: no part may fail. ``partial``: one must succeed. ``quorum``: `quorum` must succeed. Under every policy a
    job of which nothing succeeded fails. `parts` is how many there are where not all were waited for. Raises `BadInput`
    for the policy ``quorum`` without a `quorum` of at least 1.
    """
    parts = succeeded + failed if parts is None else parts
    if policy == "quorum" and (quorum is None or quorum < 1):
        raise BadInput("quorum", "the policy quorum needs a number of parts", "set quorum to 1 or more")
    if policy == "fail" and failed:
        return f"{failed} of {parts} parts failed and the policy is fail: every part must succeed"
    if policy == "quorum" and quorum is not None and succeeded < quorum:
        return f"{failed} of {parts} parts failed and the policy is quorum: {quorum} must succeed, {succeeded} did"
    if not succeeded:
        return f"{failed} of {parts} parts failed and the policy is {policy}: at least one must succeed"
    return None
