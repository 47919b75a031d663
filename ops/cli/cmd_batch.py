"""``pointsman batch``: many jobs from one file."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ops.cli.arguments import AsJson, BatchId, Wait
from ops.cli.commands import command, group
from ops.cli.environment import open_ledger, open_producer
from ops.cli.exits import Exit, Failure
from ops.cli.render import age, note, print_facts, print_json, print_table

if TYPE_CHECKING:
    from producer import AsyncProducer
    from tasks.contract.result import Result
    from tasks.ledger import Ledger
    from tasks.ledger.batches import Batch

app = typer.Typer(rich_markup_mode=None)

#: Jobs whose state is read in one round trip.
CHUNK = 500
#: Results that are read at once. Each may hold a large text, so they are few.
READ_AHEAD = 16
#: Seconds between two reads of the states, while a command waits for a batch.
POLL_EVERY = 1.0


async def batches(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Submit a file of jobs, collect the results.

    Without a command, the latest batches are listed.

    pointsman batch submit questions.jsonl --wait
    """
    if context.invoked_subcommand is None:
        await list_batches(as_json=as_json)


async def submit(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A JSONL file: one job a line, as for POST /jobs.")],
    *,
    wait: Wait = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Seconds to wait; the jobs go on after.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Submit every line of a JSONL file as a job; print the batch's id.

    All lines are checked before the first job is accepted. If the jobs have idempotency keys, a file can be submitted
    again after a failure, and no job runs twice. With --wait, the exit code is 0 if all jobs succeeded.

        pointsman batch submit questions.jsonl
        echo '{"text": "Why was I charged twice?"}' > questions.jsonl
    """
    from tasks.batch import read_jobs
    from tasks.contract.job import new_id

    async with open_producer() as producer:
        jobs = list(read_jobs(file, producer.config))
        batch_id = new_id()
        ids = await _submit(producer, batch_id, str(Path.cwd() / file), jobs)
        if wait or timeout is not None:
            if not as_json:
                print(batch_id, flush=True)
            states = await _wait(producer.ledger, batch_id, ids, timeout=timeout)
            return _print_outcome(batch_id, states, as_json=as_json)
    if as_json:
        print_json({"id": batch_id, "jobs": ids})
    else:
        print(batch_id)
    return Exit.OK


async def _submit(producer: AsyncProducer, batch_id: str, file: str, jobs: Sequence[tuple[int, Any]]) -> list[str]:
    from tasks.contract.errors import BadInput

    keep = producer.config.limits.keep_seconds
    at = await producer.ledger.fleet.now()
    await producer.batches.open(batch_id, file=file, schedule="", at=at, keep_seconds=keep)
    ids: list[str] = []
    for start in range(0, len(jobs), CHUNK):
        chunk = jobs[start : start + CHUNK]
        try:
            accepted = await producer.submit_many([job for _, job in chunk])
        except BadInput as error:
            problem = f"{_place_in_file(error.field, [line for line, _ in chunk])}: {error.problem}"
            await producer.batches.fail(batch_id, problem)
            raise Failure(
                error.code, f"{problem}; batch {batch_id} holds the {len(ids)} jobs before", remedy=error.remedy
            ) from None
        await producer.batches.add(batch_id, [job.id for job in accepted], keep_seconds=keep)
        ids += [job.id for job in accepted]
    return ids


def _place_in_file(field: str, lines: Sequence[int]) -> str:
    """Map a field of a chunk of jobs (``[3].key``) to its place in the file (``line 504.key``)."""
    match = re.match(r"\[(\d+)\]", field)
    return f"line {lines[int(match[1])]}{field[match.end() :]}" if match else f"line {lines[0]}.{field}"


async def status(batch_id: BatchId, *, as_json: AsJson = False) -> int:
    """Show the number of a batch's jobs in each state.

    pointsman batch status 01jzq3v5k8w9x0y1z2a3b4c5d6
    """
    async with open_ledger() as ledger:
        batch = await _read(ledger, batch_id)
        counts = Counter(state or "gone" for state in await states_of(ledger, batch.jobs))
    if as_json:
        print_json(_as_json(batch) | {"states": counts})
        return Exit.OK
    facts = [("batch", batch.id), ("file", batch.file), ("age", age(batch.created_at, time.time()))]
    if batch.schedule:
        facts.append(("schedule", batch.schedule))
    if batch.error:
        facts.append(("error", batch.error))
    print_facts([*facts, ("jobs", str(len(batch.jobs))), *((state, str(n)) for state, n in counts.most_common())])
    return Exit.OK


async def results(batch_id: BatchId, *, as_json: AsJson = False) -> None:
    """Print the result of every job of a batch as JSONL, in the order of its file, ended or not.

    pointsman batch results 01jzq3v5k8w9x0y1z2a3b4c5d6 | jq -r .output
    """
    async with open_ledger() as ledger:
        batch = await _read(ledger, batch_id)
        read = _results(ledger, batch.jobs)
        if as_json:
            print_json([line async for line in read])
            return
        async for line in read:
            print(json.dumps(line, ensure_ascii=False))


async def list_batches(*, as_json: AsJson = False) -> None:
    """List the latest batches, the newest first.

    pointsman batch list
    """
    from tasks.ledger.batches import Batches

    async with open_ledger() as ledger:
        store = Batches(ledger.store)
        known = [batch for name in await store.recent() if (batch := await store.read(name)) is not None]
    if as_json:
        print_json([_as_json(batch) for batch in known])
    elif not known:
        note("no batches yet; `pointsman batch submit FILE` makes one")
    else:
        rows = [
            (
                batch.id,
                batch.schedule or "-",
                str(len(batch.jobs)),
                age(batch.created_at, time.time()),
                f"{batch.file}: {batch.error}" if batch.error else batch.file,
            )
            for batch in known
        ]
        print_table(("batch", "schedule", "jobs", "age", "file"), rows, whole=("batch",), right=("jobs", "age"))


async def states_of(ledger: Ledger, jobs: Sequence[str]) -> list[str | None]:
    """Return the state of each job, in order; None for a record that has expired."""
    found: list[str | None] = []
    for start in range(0, len(jobs), CHUNK):
        found += await ledger.views.states(jobs[start : start + CHUNK])
    return found


async def _results(ledger: Ledger, jobs: Sequence[str]) -> AsyncIterator[dict[str, Any]]:
    import asyncio

    for start in range(0, len(jobs), READ_AHEAD):
        chunk = jobs[start : start + READ_AHEAD]
        found: list[Result | None] = await asyncio.gather(*(ledger.views.result(job) for job in chunk))
        for job_id, result in zip(chunk, found, strict=True):
            gone = {"id": job_id, "state": None, "error": "its record has expired"}
            yield gone if result is None else result.model_dump(mode="json")


async def _read(ledger: Ledger, batch_id: str) -> Batch:
    from tasks.ledger.batches import Batches

    batch = await Batches(ledger.store).read(batch_id)
    if batch is None:
        raise Failure(
            "not_found",
            f"no batch {batch_id!r}; it was never submitted, or no worker has taken it yet, or its record has expired",
        )
    return batch


async def _wait(ledger: Ledger, batch_id: str, ids: Sequence[str], *, timeout: float | None) -> list[str | None]:
    """Return the states of all jobs once each has ended. A job that has ended is not read again."""
    import asyncio

    from ops.cli.waiting import batch_progress, telling_what_goes_on
    from tasks.contract.result import FINAL

    again = f"pointsman batch status {batch_id}"
    end = None if timeout is None else time.monotonic() + timeout
    states: dict[str, str | None] = dict.fromkeys(ids, "accepted")
    with telling_what_goes_on(f"batch {batch_id} goes on", again), batch_progress(batch_id) as show:
        while True:
            open_jobs = [job for job, state in states.items() if state is not None and state not in FINAL]
            states.update(zip(open_jobs, await states_of(ledger, open_jobs), strict=True))
            left = sum(state is not None and state not in FINAL for state in states.values())
            show(len(states) - left, len(states))
            if not left:
                return [states[job] for job in ids]
            if end is not None and time.monotonic() >= end:
                raise Failure("not_ended", f"{left} jobs have not ended after {timeout:g} s", remedy=again)
            await asyncio.sleep(POLL_EVERY if end is None else max(0.0, min(POLL_EVERY, end - time.monotonic())))


def _print_outcome(batch_id: str, states: Sequence[str | None], *, as_json: bool) -> int:
    counts = Counter(state or "gone" for state in states)
    if as_json:
        print_json({"id": batch_id, "states": counts})
    else:
        note(" · ".join(f"{number} {state}" for state, number in counts.most_common()))
        note(f"  results: pointsman batch results {batch_id}")
    if counts["failed"] or counts["gone"]:
        return Exit.FAILED
    return Exit.STOPPED if counts["cancelled"] or counts["expired"] else Exit.OK


def _as_json(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "file": batch.file,
        "schedule": batch.schedule or None,
        "created_at": batch.created_at,
        "error": batch.error or None,
        "jobs": len(batch.jobs),
    }


group(app, batches)
command(app, submit)
command(app, status)
command(app, results)
command(app, list_batches, "list")
