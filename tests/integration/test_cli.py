"""The command line as a user runs it: processes of its own, against a real server. No worker runs: jobs stay, or are
ended by the test through the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from ops.cli.exits import Exit
from ops.embedded.valkey import ValkeyServer
from tasks.contract.job import CallId
from tasks.contract.result import Decision, Usage
from tasks.ledger import Ledger, PartRecord
from tests import forked
from tests.harness import DEADLINE

REPOSITORY = Path(__file__).parents[2]
MODELS = ("fast", "slow")

CONFIG = """\
models:
  fast: {provider: simulated, capacity: 4}
  slow: {provider: simulated, capacity: 2}
routes:
  billing: {keywords: [invoice], models: [fast, slow]}
  general: {models: [fast]}
default_route: general
schedules:
  nightly: {cron: "30 2 * * *", batch: batch.jsonl}
"""


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def read_line(stream: IO[str] | None) -> str:
    """The next line that a process says."""
    assert stream is not None
    return stream.readline()


class Cli:
    """`pointsman` in a directory with a configuration, beside one server."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
        self.env |= {"POINTSMAN_REDIS_URL": url, "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "error"}
        self.env |= {"POINTSMAN_STATE_DIR": str(folder / "state")}
        (folder / "pointsman.yaml").write_text(CONFIG)

    def __call__(self, *arguments: str, stdin: str = "", **env: str) -> Done:
        done = forked.run("ops", *arguments, env=self.env | env, cwd=self.folder, stdin=stdin, timeout=DEADLINE)
        assert "Traceback" not in done.stderr
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ops", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, cwd=self.folder, env=self.env,
        )  # fmt: skip

    def submit(self, *arguments: str) -> str:
        done = self("submit", *arguments)
        assert done.code == Exit.OK, done.err
        return done.out.strip()

    def ledger(self, step: Callable[[Ledger], Coroutine[Any, Any, Any]]) -> Any:
        async def run() -> Any:
            ledger = Ledger(self.url, MODELS)
            try:
                return await step(ledger)
            finally:
                await ledger.close()

        return asyncio.run(run())

    def answer(self, job: str, output: str) -> None:
        """End a job as a worker would, with a simulated answer."""

        async def step(ledger: Ledger) -> None:
            decision = Decision(
                route="general", classifier="default", confidence=0.0, strategy="least_connections", model="fast"
            )
            await ledger.jobs.route(job, decision, placed="queued", model="fast")
            await ledger.jobs.claim(job, 0, "me")
            record = PartRecord(usage=Usage(input_tokens=3, output_tokens=4), cost_usd=0.25, simulated=True)
            await ledger.settle(CallId(job, 0), "fast", "me", output=output, record=record)

        self.ledger(step)


@pytest.fixture
def cli(server, tmp_path) -> Cli:
    return Cli(tmp_path, server.url)


def end(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in err
    return Done(process.returncode, out, err)


# -- submit ----------------------------------------------------------------------------------------


def test_submit_prints_the_id_alone_on_stdout(cli):
    done = cli("submit", "Why was I charged twice?")
    assert (done.code, done.err) == (Exit.OK, "")
    assert cli("status", done.out.strip(), "--json").json[0]["state"] == "accepted"


def test_installed_command_does_the_same(cli):
    command = Path(sys.executable).with_name("pointsman")
    done = subprocess.run([command, "version"], capture_output=True, text=True, check=True, env=cli.env)
    assert done.stdout.startswith("pointsman ")


def test_submit_reads_a_text_from_a_pipe(cli):
    # An interpreter of its own, whose imports warn of nothing; the others are forked with their libraries.
    done = subprocess.run(
        [sys.executable, "-m", "ops", "submit", "--json"], input="Grüße aus der Pipe\n",
        capture_output=True, text=True, check=True, cwd=cli.folder, env=cli.env, timeout=DEADLINE,
    )  # fmt: skip
    assert "Warning" not in done.stderr

    async def read(ledger: Ledger) -> Any:
        return await ledger.views.read(json.loads(done.stdout)["id"])

    job, state, _ = cli.ledger(read)
    assert (job.text, state) == ("Grüße aus der Pipe\n", "accepted")


def test_submit_passes_every_option_to_the_job(cli):
    job_id = cli.submit(
        "--item", "a", "--item", "b", "--join", "concatenate", "--prompt", "p", "--route", "billing",
        "--model", "slow", "--strategy", "round_robin", "--policy", "quorum", "--quorum", "1", "--priority", "high",
        "--deadline", "60", "--key", "k", "--label", "l=1", "--metadata", "m=1", "--max-tokens", "5",
        "--temperature", "0.5", "--seed", "7",
    )  # fmt: skip

    async def read(ledger: Ledger) -> Any:
        return await ledger.views.read(job_id)

    job, _, _ = cli.ledger(read)
    assert job.model_dump(exclude_defaults=True, exclude={"id"}) == {
        "kind": "sections", "items": ("a", "b"), "join": "concatenate", "prompt": "p", "route": "billing",
        "model": "slow", "strategy": "round_robin", "policy": "quorum", "quorum": 1, "priority": "high",
        "deadline": 60.0, "key": "k", "labels": {"l": "1"}, "metadata": {"m": 1}, "max_tokens": 5,
        "temperature": 0.5, "seed": 7,
    }  # fmt: skip


def test_submit_takes_a_job_file_then_fields_then_options(cli):
    # given a job file, and options that say more
    text_ = {"kind": "sections", "items": ["a", "b"], "model": "fast", "join": "table", "priority": "low"}
    (cli.folder / "job.json").write_text(json.dumps(text_))
    # when it is submitted
    job_id = cli.submit(
        "--job", "job.json", "--field", "model=slow", "--field", 'join_options={"format": "csv"}',
        "--each", "kind=vote", "--each", "n=5", "--priority", "high", "--budget", "0.5", "--join-model", "fast",
    )  # fmt: skip

    # then the last word counts
    async def read(ledger: Ledger) -> Any:
        return await ledger.views.read(job_id)

    job, _, _ = cli.ledger(read)
    assert job.model_dump(exclude_defaults=True, exclude={"id"}) == {
        "kind": "sections", "items": ("a", "b"), "model": "slow", "join": "table", "join_options": {"format": "csv"},
        "join_model": "fast", "each": {"kind": "vote", "n": 5}, "priority": "high", "budget_usd": 0.5,
    }  # fmt: skip


def test_submit_takes_early_stop_and_variety_of_a_vote(cli):
    job_id = cli.submit(
        "spam?", "-n", "9", "--prefer", "cost", "--confidence", "0.9", "--field", 'variety={"models": ["fast", "slow"]}'
    )

    async def read(ledger: Ledger) -> Any:
        return await ledger.views.read(job_id)

    job, _, _ = cli.ledger(read)
    assert (job.kind, job.n, job.prefer, job.confidence) == ("vote", 9, "cost", 0.9)
    assert job.variety.models == ("fast", "slow")


def test_submit_with_the_same_idempotency_key_gives_the_same_job(cli):
    first = cli("submit", "once", "--idempotency-key", "test-key")
    again = cli("submit", "once", "--idempotency-key", "test-key")
    other = cli("submit", "twice", "--idempotency-key", "test-key", "--json")
    assert again.out == first.out
    assert "has a job already" in again.err
    assert (other.code, other.json["error"]["field"]) == (Exit.USAGE, "idempotency_key")


def test_wait_past_the_timeout_ends_with_5_and_the_job_goes_on(cli):
    done = cli("submit", "x", "--wait", "--timeout", "0.2", "--json")
    assert (done.code, done.json["error"]["code"]) == (Exit.NOT_ENDED, "not_ended")
    assert "pointsman result" in done.err


def test_wait_after_ctrl_c_prints_the_command_that_waits_again(cli):
    process = cli.start("submit", "x", "--wait")
    job_id = read_line(process.stderr).split()[1]  # given: it waits
    process.send_signal(signal.SIGINT)
    done = end(process)
    assert done.code == Exit.INTERRUPTED
    assert f"pointsman result {job_id} --wait" in done.err
    assert cli("status", job_id, "--json").json[0]["state"] == "accepted"


# -- result, status, cancel, explain ---------------------------------------------------------------


def test_result_prints_the_output_on_stdout_and_simulated_on_stderr(cli):
    job_id = cli.submit("x")
    cli.answer(job_id, "the answer")
    done = cli("result", job_id)
    assert (done.code, done.out) == (Exit.OK, "the answer\n")
    assert "succeeded · simulated · route general · model fast" in done.err
    assert "3+4 tokens · $0.25" in done.err


def test_result_with_wait_returns_when_the_job_ends(cli):
    job_id = cli.submit("x")
    process = cli.start("result", job_id, "--wait", "--json")
    read_line(process.stderr)  # given: it waits
    cli.answer(job_id, "the answer")
    done = end(process)
    assert (done.code, done.json["output"], done.json["simulated"]) == (Exit.OK, "the answer", True)


def test_result_of_a_job_that_has_not_ended_fails(cli):
    job_id = cli.submit("x")
    done = cli("result", job_id)
    assert (done.code, done.out) == (Exit.NOT_ENDED, "")
    assert "is accepted" in done.err


def test_result_prints_the_reason_of_a_failure_on_stderr(cli):
    job_id = cli.submit("x")

    async def fail(ledger: Ledger) -> None:
        await ledger.jobs.stop(job_id, "failed", "the model is on holiday")

    cli.ledger(fail)
    done = cli("result", job_id)
    assert (done.code, done.out) == (Exit.FAILED, "")
    assert f"pointsman: error: job {job_id} failed: the model is on holiday" in done.err
    assert cli("result", job_id, "--json").json["error"] == "the model is on holiday"


def test_result_of_a_cancelled_job_ends_with_6(cli):
    job_id = cli.submit("x")
    first, again = cli("cancel", job_id), cli("cancel", job_id, "--json")
    assert (first.code, first.out) == (Exit.OK, f"{job_id} cancelled\n")
    assert again.json == [{"id": job_id, "cancelled": False, "state": "cancelled"}]
    assert cli("result", job_id).code == Exit.STOPPED


@pytest.mark.parametrize("command", ["status", "result", "cancel", "explain"])
def test_unknown_job_ends_with_4(cli, command):
    done = cli(command, "01jzq3v5k8w9x0y1z2a3b4c5d6")
    assert (done.code, done.out) == (Exit.NOT_FOUND, "")
    assert done.err.startswith("pointsman: error: no job '01jzq3v5k8w9x0y1z2a3b4c5d6'")


def test_status_shows_known_jobs_beside_unknown_ones(cli):
    job_id = cli.submit("x")
    done = cli("status", job_id, "unknown", COLUMNS="80")
    assert done.code == Exit.NOT_FOUND
    assert [line.split()[0] for line in done.out.splitlines()] == ["job", job_id]
    printed = cli("status", job_id, "unknown", "--json").json
    assert [(entry["id"], entry["state"]) for entry in printed] == [(job_id, "accepted"), ("unknown", None)]


def test_explain_shows_decision_and_parts(cli):
    job_id = cli.submit("x")
    cli.answer(job_id, "a secret answer")
    done = cli("explain", job_id, COLUMNS="80")
    assert done.code == Exit.OK
    for word in ("classifier  default, confidence 0.00", "strategy    least_connections", "3+4", "$0.25"):
        assert word in done.out
    assert "secret" not in done.out + cli("explain", job_id, "--json").out
    assert max(map(len, done.out.splitlines())) <= 80


# -- fleet, batches, schedules ---------------------------------------------------------------------


def test_pools_are_scaled_and_reset(cli):
    async def configure(ledger: Ledger) -> None:
        await ledger.fleet.configure({"fast": 4, "slow": 2})

    cli.ledger(configure)
    assert cli("pools", "scale", "slow", "1").out == "slow: capacity 1 (configured: 2)\n"
    pools = {pool["model"]: pool for pool in cli("pools", "--json").json}
    assert (pools["slow"]["capacity"], pools["slow"]["configured"], pools["slow"]["workers"]) == (1, 2, [])
    assert cli("pools", "scale", "slow", "--reset", "--json").json["capacity"] == 2
    done = cli("pools")
    assert done.out.splitlines()[2].split() == ["slow", "2", "0", "0", "0", "0", "-"]
    assert "slow has no worker" in done.err


def test_route_sees_the_fleet_and_leaves_nothing_behind(cli):
    async def configure(ledger: Ledger) -> None:
        await ledger.fleet.configure({"fast": 4, "slow": 2})

    async def keys(ledger: Ledger) -> Any:
        return await ledger.store.run(("DBSIZE",))

    cli.ledger(configure)
    before = cli.ledger(keys)
    printed = cli("route", "the invoice is wrong", "--json").json
    assert (printed["route"], printed["live"], printed["turns"]) == ("billing", True, ["fast", "slow"])
    assert cli.ledger(keys) == before


def test_batch_is_submitted_waited_for_and_collected(cli):
    (cli.folder / "batch.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n')
    batch = cli("batch", "submit", "batch.jsonl").out.strip()
    status = cli("batch", "status", batch, "--json").json
    assert (status["jobs"], status["states"]) == (2, {"accepted": 2})
    assert status["file"] == str(cli.folder / "batch.jsonl")
    lines = [json.loads(line) for line in cli("batch", "results", batch).out.splitlines()]
    for line, word in zip(lines, ("first", "second"), strict=True):
        cli.answer(line["id"], word)
    assert [result["output"] for result in cli("batch", "results", batch, "--json").json] == ["first", "second"]
    assert batch in cli("batch", "list", COLUMNS="80").out


def test_batch_with_a_line_that_is_no_job_is_refused_whole(cli):
    (cli.folder / "batch.jsonl").write_text('{"text": "one"}\n{"text": "two", "model": "unknown"}\n')
    done = cli("batch", "submit", "batch.jsonl", "--json")
    assert (done.code, done.json["error"]["field"]) == (Exit.USAGE, "line 2.model")
    known = [entry["file"] for entry in cli("batch", "list", "--json").json]
    assert str(cli.folder / "batch.jsonl") not in known


def test_batch_with_a_conflict_names_its_line(cli):
    cli.submit("other", "--idempotency-key", "taken")
    (cli.folder / "batch.jsonl").write_text('{"text": "one"}\n\n{"text": "two", "idempotency_key": "taken"}\n')
    done = cli("batch", "submit", "batch.jsonl")
    assert done.code == Exit.USAGE
    assert "line 3.idempotency_key: was used for another request" in done.err


def test_batch_wait_reports_the_states_of_its_jobs(cli):
    (cli.folder / "batch.jsonl").write_text('{"text": "one"}\n')
    process = cli.start("batch", "submit", "batch.jsonl", "--wait")
    batch = read_line(process.stdout).strip()  # given: it waits
    (line,) = cli("batch", "results", batch, "--json").json
    cli("cancel", line["id"])
    done = end(process)
    assert done.code == Exit.STOPPED
    assert "1 cancelled" in done.err


def test_unknown_batch_ends_with_4(cli):
    assert cli("batch", "status", "unknown").code == Exit.NOT_FOUND
    assert cli("batch", "results", "unknown").code == Exit.NOT_FOUND


def test_closed_stdout_prints_no_error(cli):
    (cli.folder / "batch.jsonl").write_text('{"text": "one"}\n' * 400)
    batch = cli("batch", "submit", "batch.jsonl").out.strip()
    process = cli.start("batch", "results", batch)
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(DEADLINE), err) == (Exit.PIPE, "")


def test_schedules_are_listed_and_run(cli):
    (printed,) = cli("schedule", "list", "--json").json
    assert (printed["name"], printed["last_batch"]) == ("nightly", None)
    assert printed["next_run"].endswith("02:30:00+00:00")
    done = cli("schedule", "run", "nightly", "--json")

    async def messages(ledger: Ledger) -> Any:
        return await ledger.store.run(("LRANGE", "route", 0, -1))

    (queue,) = cli.ledger(messages)
    mine = [json.loads(message) for message in queue if f"{done.json['batch']}.batch" in message]
    assert [message["headers"]["task"] for message in mine] == ["tasks.batch"]
    assert cli("schedule", "run", "unknown").code == Exit.NOT_FOUND


def test_doctor_finds_the_server_and_misses_the_workers(cli):
    done = cli("doctor", "--json")
    levels = {(finding["subject"], finding["level"]) for finding in done.json}
    assert done.code == Exit.FAILED
    assert {("redis", "ok"), ("redis memory", "ok"), ("redis durability", "ok"), ("worker", "fail")} <= levels


def test_options_may_stand_before_or_after_the_command(cli):
    shutil.move(cli.folder / "pointsman.yaml", cli.folder / "other.yaml")
    assert cli("models").code == Exit.USAGE
    assert cli("--config", "other.yaml", "models").code == Exit.OK
    assert cli("models", "-c", "other.yaml").code == Exit.OK
    assert cli("pools", "-c", "other.yaml", "scale", "fast", "--reset").code == Exit.OK


def test_wait_ends_with_3_if_redis_goes_away(tmp_path):
    (tmp_path / "cli").mkdir()
    with ValkeyServer(tmp_path / "server") as server:
        cli = Cli(tmp_path / "cli", server.url)
        job_id = cli.submit("x")
        process = cli.start("result", job_id, "--wait")
        read_line(process.stderr)  # given: it waits
        server.stop()
        done = end(process)
    assert done.code == Exit.UNREACHABLE
    assert f"pointsman result {job_id} --wait" in done.err
