"""The HTTP API as a process over a real Valkey, through HTTP clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import redis

from ops.embedded.valkey import ValkeyServer
from tasks.contract.result import Decision, Usage
from tasks.ledger import Ledger, PartRecord, StagePlan
from tasks.parallel.part_spec import PartSpec
from tests import redis_keys
from tests.harness import DEADLINE, wait_for

REPOSITORY = Path(__file__).parents[2]
UNKNOWN = "0" * 26

CONFIG = """
models:
  fast: {provider: openai, base_url: "http://127.0.0.1:9/v1"}
  rehearsal: {provider: simulated}
routes:
  billing: {models: [fast, rehearsal], keywords: [invoice]}
default_route: billing
limits: {payload_bytes: 4096}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    (folder / "pointsman.yaml").write_text(CONFIG)
    return folder


def start(folder, redis_url, *arguments, **environ) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "producer.api", "--config", str(folder / "pointsman.yaml"), *arguments]
    environ = {**os.environ, "POINTSMAN_REDIS_URL": redis_url, **environ}
    return subprocess.Popen(
        command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@contextlib.contextmanager
def serving(folder, redis_url, *arguments, **environ) -> Iterator[tuple[subprocess.Popen[str], str]]:
    ready = folder / f"ready-{time.monotonic_ns()}"
    with start(folder, redis_url, "--port", "0", "--ready-file", str(ready), *arguments, **environ) as process:
        try:
            wait_for(lambda: ready.exists() or process.poll() is not None, "the start of the API")
            assert process.poll() is None, process.communicate()[1]
            yield process, ready.read_text().strip()
        finally:
            process.kill()


def refused(folder, *arguments, **environ) -> tuple[int, str]:
    """The exit code and message of an API that does not start."""
    with start(folder, "unix:///nowhere", *arguments, **environ) as process:
        _, text_ = process.communicate(timeout=DEADLINE)
    return process.returncode, text_


@pytest.fixture(scope="module")
def valkey(folder):
    with ValkeyServer(folder / "state") as server:
        yield server


@pytest.fixture(scope="module")
def url(folder, valkey):
    with serving(folder, valkey.url) as (_, url):
        yield url


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=DEADLINE) as client:
        yield client


@pytest.fixture
def store(valkey):
    with redis.Redis.from_url(valkey.url, decode_responses=True) as store:
        yield store


def submit(client, **job) -> str:
    response = client.post("/jobs", json={"text": "Why was I charged twice?", **job})
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def move(valkey, step) -> Any:
    """Change the ledger as a worker would."""

    async def run() -> Any:
        ledger = Ledger(valkey.url, ("fast", "rehearsal"))
        try:
            return await step(ledger)
        finally:
            await ledger.close()

    return asyncio.run(run())


def events_of(lines) -> Iterator[tuple[int, str, Any]]:
    """(id, event, data) of each event of a stream."""
    event = {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            event[name] = value
        elif "data" in event:
            yield int(event["id"]), event["event"], json.loads(event["data"])
            event = {}


def subscribers(store, job_id) -> int:
    return int(store.pubsub_numsub(redis_keys.job_events(job_id))[0][1])


# -- submitting ----------------------------------------------------------------------------------


def test_post_of_one_job_accepts_it(client):
    response = client.post("/jobs", json={"text": "Why was I charged twice?", "labels": {"team": "a"}})

    assert response.status_code == 202
    assert response.json()["state"] == "accepted"
    job = client.get(f"/jobs/{response.json()['id']}").json()
    assert (job["id"], job["state"], job["labels"]) == (response.json()["id"], "accepted", {"team": "a"})
    assert {"output", "error", "cost_usd", "routing", "parts"} <= job.keys()


def test_post_of_an_array_accepts_its_jobs_in_order(client):
    response = client.post("/jobs", json=[{"text": f"job {n}", "labels": {"n": str(n)}} for n in range(5)])

    assert response.status_code == 202
    read = [client.get(f"/jobs/{job['id']}").json() for job in response.json()]
    assert [job["labels"]["n"] for job in read] == list("01234")


def test_post_of_an_array_with_one_bad_job_accepts_none(client, store):
    before = store.zcard(redis_keys.ACTIVE_JOBS)

    response = client.post("/jobs", json=[{"text": "good"}, {"text": " "}])

    assert response.status_code == 422
    assert response.json()["field"] == "[1].text"
    assert store.zcard(redis_keys.ACTIVE_JOBS) == before


@pytest.mark.parametrize(
    ("job", "field", "text_"),
    [
        ({"txt": "hello"}, "txt", "fields are: "),
        ({"text": ""}, "text", "is empty"),
        ({}, "text", "exactly one of"),
        ({"text": "hello", "model": "gpt"}, "model", "auto, fast, rehearsal, route:billing"),
        ({"text": "hello", "route": "legal"}, "route", "billing"),
        ({"text": "hello", "kind": "votes"}, "kind", "sections, single, vote"),
        ({"text": 5}, "text", "valid string"),
        ([{"text": "hello", "model": "gpt"}], "[0].model", "fast"),
        ([], "job", "at least one"),
        ("hello", "job", "JSON object"),
        ([7], "[0]", "JSON object"),
    ],
)
def test_post_of_a_bad_job_names_field_and_remedy(client, job, field, text_):
    response = client.post("/jobs", json=job)

    body = response.json()
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert body["field"] == field
    assert text_ in body["error"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"text": "\\ud800"}', b"\xff\xfe", b"[" * 100_000, b"{}x"])
def test_post_of_malformed_json_does_not_quote_it(client, body):
    response = client.post("/jobs", content=body, headers={"content-type": "application/json"})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "malformed_json"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; x=y"])
def test_post_refuses_the_content_types_of_html_forms(client, kind):
    response = client.post("/jobs", content=b'{"text": "hello"}', headers={"content-type": kind} if kind else {})

    assert response.status_code == 415
    assert response.json()["remedy"] == "send Content-Type: application/json"


def test_post_of_json_may_declare_its_charset(client):
    kind = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/jobs", content=b'{"text": "hello"}', headers=kind).status_code == 202


def test_post_of_a_job_above_the_limit_is_too_large(client):
    response = client.post("/jobs", json={"text": "a" * 5000})

    assert response.status_code == 413
    assert response.json()["field"] == "text"
    assert "4,096" in response.json()["detail"]


def test_post_of_a_job_just_below_the_limit_is_accepted_if_escaped(client):
    body = json.dumps({"text": "é" * 1700})  # six bytes a letter on the wire, two in the ledger

    assert len(body) > 10_000
    assert client.post("/jobs", content=body, headers={"content-type": "application/json"}).status_code == 202


def test_post_of_a_long_body_is_refused_while_it_is_read(client):
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield b'{"text": "'
        while sent < 3_000_000:
            sent += 10_000
            yield b"a" * 10_000

    response = client.post("/jobs", content=endless(), headers={"content-type": "application/json"})

    assert response.status_code == 413
    assert response.json()["error"]["code"] == "too_large"


def test_post_of_a_long_declared_body_is_refused_before_it_is_read(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as wire:
        wire.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert wire.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_post_of_an_array_may_be_longer_than_one_job(client):
    response = client.post("/jobs", json=[{"text": "a" * 3000}] * 100)

    assert response.status_code == 202
    assert len({job["id"] for job in response.json()}) == 100


# -- idempotency ---------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["key-{}", '"key-{}"'])
def test_repeated_post_returns_the_same_job_in_its_present_state(client, header):
    key = {"idempotency-key": header.format(time.monotonic_ns())}
    first = client.post("/jobs", json={"text": "hello"}, headers=key)
    client.delete(f"/jobs/{first.json()['id']}")

    again = client.post("/jobs", json={"text": "hello"}, headers=key)

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json() == {"id": first.json()["id"], "state": "cancelled"}


def test_idempotency_key_of_header_and_body_may_agree(client):
    key = f"key-{time.monotonic_ns()}"
    first = client.post("/jobs", json={"text": "hello", "idempotency_key": key})

    assert client.post("/jobs", json={"text": "hello"}, headers={"idempotency-key": f'"{key}"'}).json() == first.json()
    both = client.post("/jobs", json={"text": "hello", "idempotency_key": key}, headers={"idempotency-key": key})
    assert (both.status_code, both.json()) == (200, first.json())


def test_idempotency_key_of_another_request_is_refused(client):
    key = {"idempotency-key": f"key-{time.monotonic_ns()}"}
    client.post("/jobs", json={"text": "hello"}, headers=key)

    response = client.post("/jobs", json={"text": "something else"}, headers=key)

    assert response.status_code == 422
    assert response.json()["field"] == "idempotency_key"


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"text": "hello", "idempotency_key": "one"}, "another"),
        ({"text": "hello"}, ""),
        ({"text": "hello"}, "x" * 256),
        ([{"text": "hello"}], "one"),
    ],
)
def test_idempotency_key_that_is_invalid_or_contradicts_is_refused(client, body, key):
    response = client.post("/jobs", json=body, headers={"idempotency-key": key})

    assert response.status_code == 422
    assert response.json()["field"] == "Idempotency-Key"


def test_repeated_post_of_an_array_is_answered_with_200(client):
    stamp = time.monotonic_ns()
    jobs = [{"text": "hello", "idempotency_key": f"{stamp}-{n}"} for n in range(3)]

    first, again = client.post("/jobs", json=jobs), client.post("/jobs", json=jobs)

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json() == again.json()


# -- reading and cancelling ----------------------------------------------------------------------


@pytest.mark.parametrize("job_id", [UNKNOWN, "nope", "%7Bfleet%7D", "x" * 5000])
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("DELETE", ""), ("GET", "/events")])
def test_unknown_job_id_is_not_found(client, job_id, method, tail):
    response = client.request(method, f"/jobs/{job_id}{tail}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert len(response.content) < 1000


def test_delete_of_a_job_can_be_repeated(client):
    job_id = submit(client)

    for _ in range(2):
        response = client.delete(f"/jobs/{job_id}")
        assert (response.status_code, response.json()) == (200, {"id": job_id, "state": "cancelled"})
    assert client.get(f"/jobs/{job_id}").json()["error"] == "cancelled by the producer"


def test_delete_of_a_job_that_ended_keeps_its_state(client, valkey):
    job_id = submit(client)
    move(valkey, lambda ledger: ledger.jobs.stop(job_id, "expired", "too late"))

    assert client.delete(f"/jobs/{job_id}").json() == {"id": job_id, "state": "expired"}


@pytest.mark.parametrize(("path", "allowed"), [("/jobs", {"POST"}), (f"/jobs/{UNKNOWN}", {"GET", "HEAD", "DELETE"})])
def test_wrong_method_is_answered_with_the_allowed_ones(client, path, allowed):
    response = client.put(path)

    assert response.status_code == 405
    assert set(response.headers["allow"].split(", ")) == allowed
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_unknown_path_is_not_found(client):
    assert client.get("/job").json()["error"]["code"] == "not_found"


# -- events --------------------------------------------------------------------------------------


def test_events_show_each_change_and_end_with_the_job(client, store, valkey):
    job_id = submit(client)
    seen = []
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for number, name, job in events_of(response.iter_lines()):
            seen.append((number, name, job["state"]))
            if job["state"] == "accepted":
                client.delete(f"/jobs/{job_id}")

    assert [event[1:] for event in seen] == [("state", "accepted"), ("final", "cancelled")]
    assert seen[0][0] < seen[1][0]
    wait_for(lambda: subscribers(store, job_id) == 0, "the end of the subscription")


def test_events_of_parts_have_no_outputs_until_the_end(client, valkey):
    decision = Decision(route="billing", classifier="default", confidence=1, strategy="round_robin")
    job_id = submit(client, text=None, kind="sections", items=["one", "two"])

    async def plan(ledger):
        await ledger.plan(job_id, decision.model_dump_json(), StagePlan([PartSpec("fast"), PartSpec("fast")]))
        await ledger.jobs.claim(job_id, 0, "me")

    async def finish_first(ledger):
        record = PartRecord(usage=Usage(input_tokens=3, output_tokens=1), cost_usd=0.5)
        await ledger.jobs.finish(job_id, 0, "me", output="eins", record=record)

    async def finish_all(ledger):
        await ledger.jobs.claim(job_id, 1, "me")
        await ledger.jobs.finish(job_id, 1, "me", output="zwei", record=PartRecord())
        assert (await ledger.jobs.join(job_id)).word == "go"
        await ledger.jobs.conclude(job_id, "succeeded", output="einszwei")

    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        events = events_of(response.iter_lines())
        next(events)
        move(valkey, plan)
        started = next(event for event in events if event[2]["state"] == "running")
        move(valkey, finish_first)
        moved = next(events)
        move(valkey, finish_all)
        *_, last = events

    assert started[1] == "state"
    assert moved[1] == "part"
    assert (moved[2]["parts"][0]["state"], moved[2]["parts"][0]["output"], moved[2]["cost_usd"]) == (
        "succeeded",
        None,
        0.5,
    )
    assert (last[1], last[2]["output"]) == ("final", "einszwei")
    assert [part["output"] for part in last[2]["parts"]] == ["eins", "zwei"]


def test_events_of_an_ended_job_are_its_result(client):
    job_id = submit(client)
    client.delete(f"/jobs/{job_id}")

    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        ((number, name, job),) = events_of(response.iter_lines())

    assert (name, job) == ("final", client.get(f"/jobs/{job_id}").json())
    again = client.get(f"/jobs/{job_id}/events", headers={"last-event-id": str(number)})
    assert again.status_code == 204


@pytest.mark.parametrize(("last", "next_id"), [("41", 42), ("nonsense", 1), ("9" * 400, 1)])
def test_events_after_a_reconnect_have_the_present_state_and_a_larger_id(client, last, next_id):
    job_id = submit(client)

    with client.stream("GET", f"/jobs/{job_id}/events", headers={"last-event-id": last}) as response:
        number, _, job = next(events_of(response.iter_lines()))

    assert (number, job["state"]) == (next_id, "accepted")


def test_events_free_the_subscription_of_a_client_that_leaves(client, store):
    job_id = submit(client)

    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        events = events_of(response.iter_lines())
        next(events)
        assert subscribers(store, job_id) == 1

    wait_for(lambda: subscribers(store, job_id) == 0, "the end of the subscription")


def test_events_come_later_after_a_missed_announcement(client, store, valkey):
    job_id = submit(client)
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        events = events_of(response.iter_lines())
        next(events)
        store.hset(redis_keys.job(job_id), mapping={"state": "failed", "error": "x", "ended_at": "1"})
        assert [name for _, name, _ in events] == ["final"]


# -- health, the console, other clients -------------------------------------------------------------------


def test_probes_answer_health_and_readiness(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_console_names_pools_and_routes_and_may_load_nothing(client):
    response = client.get("/")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "rehearsal" in response.text
    assert "billing" in response.text


def test_openai_client_raises_its_own_error_with_our_code(url):
    with (
        openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client,
        pytest.raises(openai.UnprocessableEntityError) as caught,
    ):
        client.post("/jobs", body={"text": "hello", "model": "gpt"}, cast_to=object)

    assert (caught.value.code, caught.value.param, caught.value.type) == ("bad_input", "model", "invalid_request_error")


def test_wrong_host_is_refused_except_for_probes(client):
    response = client.get("/", headers={"host": "evil.example"})

    assert response.status_code == 421
    assert response.json()["error"]["code"] == "wrong_host"
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 200


def test_server_answers_many_clients_at_once(url):
    async def ask() -> Any:
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE) as client:
            return await asyncio.gather(*(client.post("/jobs", json={"text": f"job {n}"}) for n in range(200)))

    assert {response.status_code for response in asyncio.run(ask())} == {202}


# -- keys ------------------------------------------------------------------------------------------


def test_server_with_keys_answers_only_clients_that_have_one(folder, valkey):
    keys = folder / "keys"
    keys.write_text(f"sha256:{hashlib.sha256(b'right').hexdigest()}\n")

    with (
        serving(folder, valkey.url, "--host", "0.0.0.0", POINTSMAN_API_KEYS_FILE=str(keys)) as (_, url),
        httpx.Client(base_url=url) as client,
    ):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            response = client.post("/jobs", json={"text": "hello"}, headers=headers)
            assert (response.status_code, response.json()["error"]["type"]) == (401, "authentication_error")
        assert client.post("/jobs", json={"text": "x"}, headers={"authorization": "Bearer right"}).status_code == 202
        assert client.get("/", auth=("anybody", "right")).status_code == 200
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_server_without_keys_refuses_addresses_that_others_reach(folder, host):
    code, text_ = refused(folder, "--host", host, "--port", "0")

    assert code == 2
    assert "POINTSMAN_API_KEYS_FILE" in text_


# -- starting and ending ---------------------------------------------------------------------------


def test_server_reports_a_port_in_use_with_its_remedy(folder):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, text_ = refused(folder, "--port", str(port))

    assert code == 2
    assert f"--port {port}: is in use by another program; choose another" in text_
    assert "Traceback" not in text_


def test_server_refuses_a_host_that_is_no_address_here(folder):
    code, text_ = refused(folder, "--host", "192.0.2.1.invalid", "--port", "0")

    assert code == 2
    assert "is no address of this machine" in text_


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_ends_at_a_signal_with_all_open_streams(folder, valkey, number):
    with serving(folder, valkey.url) as (process, url), httpx.Client(base_url=url, timeout=DEADLINE) as client:
        job_id = submit(client)
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            events = events_of(response.iter_lines())
            next(events)
            process.send_signal(number)
            assert list(events) == []  # a complete answer, not a broken one

        assert process.wait(DEADLINE) == 0
        assert process.communicate() == ("", "")


# -- without Redis -----------------------------------------------------------------------------------


@pytest.fixture
def own(folder, tmp_path):
    """An API with a Valkey of its own, which a test may stop."""
    server = ValkeyServer(tmp_path / "state")
    server.start()
    try:
        with serving(folder, server.url) as (process, url), httpx.Client(base_url=url, timeout=DEADLINE) as client:
            yield server, client, process
    finally:
        server.stop()


def ask_all(client, job_id) -> list[tuple[str, httpx.Response, float]]:
    """(path, answer, seconds) of every kind of request, all sent at once."""
    requests = [
        ("POST", "/jobs", {"json": {"text": "a secret prompt"}}),
        ("GET", f"/jobs/{job_id}", {}),
        ("DELETE", f"/jobs/{job_id}", {}),
        ("GET", f"/jobs/{job_id}/events", {}),
        ("GET", "/readyz", {}),
        ("GET", "/", {}),
    ]

    def ask(method, path, more) -> Any:
        began = time.monotonic()
        return path, client.request(method, path, **more), time.monotonic() - began

    with ThreadPoolExecutor() as threads:
        return list(threads.map(lambda request: ask(*request), requests))


def test_server_without_redis_answers_503_and_recovers(own):
    server, client, process = own
    job_id = submit(client)
    server.stop()

    for path, response, seconds in ask_all(client, job_id):
        assert response.status_code == 503, path
        assert seconds < 5, path
        if path != "/":
            assert response.json()["error"]["code"] == "unreachable"
            assert int(response.headers["retry-after"]) >= 1
    assert client.get("/healthz").status_code == 200

    server.start()

    assert client.get("/readyz").status_code == 200
    assert client.get(f"/jobs/{job_id}").json()["state"] == "accepted"
    submit(client)
    process.terminate()
    _, log = process.communicate(timeout=10)
    assert "request.unreachable" in log
    assert "secret" not in log


def test_server_answers_within_its_time_limit_if_redis_hangs(own):
    server, client, _ = own
    job_id = submit(client)
    os.kill(server.pid, signal.SIGSTOP)
    try:
        for path, response, seconds in ask_all(client, job_id):
            assert response.status_code == 503, path
            assert seconds < (5 if path in {"/readyz", "/"} else 15), path
    finally:
        os.kill(server.pid, signal.SIGCONT)

    wait_for(lambda: client.get("/readyz").status_code == 200, "the return of Redis")
    assert client.get(f"/jobs/{job_id}").status_code == 200


def test_events_end_when_redis_does(own):
    server, client, _ = own
    job_id = submit(client)
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        events = events_of(response.iter_lines())
        next(events)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert list(events) == []
        stopping.join()
