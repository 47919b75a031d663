"""Simulated models as a process, asked by the official client of another project."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from tests.harness import DEADLINE, REPOSITORY, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

MODELS: dict[str, Any] = {
    "echo": {},
    "billing": {"answers": {"charged": "billing", "": "other"}},
    "voter": {"answers": ["yes", "no", "maybe"]},
    "prompted": {"prompts": {"You translate": {"hello": "bonjour"}}, "answers": {"": "other"}},
    "long": {"answers": {"": "abcd" * 20}, "per_token_s": 0.01},
    "slow": {"latency": 0.2},
    "endless": {"latency": 600},
    "two": {"latency": 0.3, "concurrency": 2},
    "paced": {"rpm": 5},
    "paced-broken": {"rpm": 5, "failure": "unauthorized"},
    "paced-reset": {"rpm": 5, "failure": "reset"},
    "flaky": {"error_rate": 0.5, "error_status": 503},
    "limited": {"error_rate": 1, "error_status": 429},
    **{kind: {"failure": kind} for kind in ("bad_request", "unauthorized", "not_found", "html", "empty", "reset")},
    "never": {"failure": "never"},
}


def wait_until_ready(path: Path, process: subprocess.Popen[bytes]) -> str:
    wait_for(lambda: path.exists() or process.poll() is not None, "start of the simulated models")
    assert process.poll() is None, f"ended with {process.returncode} before it was ready"
    return path.read_text().strip()


@contextlib.contextmanager
def serve(folder: Path, models: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    file = folder / "models.json"
    file.write_text(json.dumps(models))
    ready = folder / "ready"
    command = [sys.executable, "-m", "ops.embedded.simulated", "--models", str(file), "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=REPOSITORY, start_new_session=True)
    try:
        yield process, wait_until_ready(ready, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("simulated"), MODELS) as (_, url):
        yield url


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=20) as client:
        yield client


def ask(client: Any, model: str, text: Any = "Why was I charged twice?", **more: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def stats(url: str, model: str) -> Any:
    return httpx.get(url.removesuffix("/v1") + "/stats").json()[model]


def test_answer_has_openai_s_shape_and_is_marked_as_simulated(client):
    reply = client.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]
    )
    completion = reply.parse()
    assert reply.headers["x-simulated"] == "true"
    assert completion.simulated is True
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == "echo"
    assert completion.choices[0].message.content == "[simulated echo] Hello there"
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.prompt_tokens == 5
    assert completion.usage.completion_tokens == 7
    assert completion.usage.total_tokens == 12


def test_declared_answers_are_given(client):
    assert ask(client, "billing").choices[0].message.content == "billing"
    assert ask(client, "billing", "Hello").choices[0].message.content == "other"


def test_answers_may_depend_on_the_system_message(client):
    def answer(*system: str) -> Any:
        messages = [*({"role": "system", "content": text} for text in system), {"role": "user", "content": "Hello"}]
        return client.chat.completions.create(model="prompted", messages=messages).choices[0].message.content

    assert answer("You translate into French.") == "bonjour"
    assert answer("Be brief.", "you translate.") == "bonjour"
    assert answer("Be brief.") == answer() == "other"


def test_answer_is_the_same_for_the_same_request_and_differs_by_seed(client):
    def answer(seed: int) -> Any:
        return ask(client, "voter", seed=seed).choices[0].message.content

    assert len({answer(1) for _ in range(5)}) == 1
    assert {answer(seed) for seed in range(30)} == {"yes", "no", "maybe"}


def test_rpm_limit_is_in_the_headers_and_refuses_further_requests(url):
    body = {"model": "paced", "messages": [{"role": "user", "content": "Hi"}]}
    replies = [httpx.post(f"{url}/chat/completions", json={**body, "stream": bool(n % 2)}) for n in range(6)]
    assert [reply.status_code for reply in replies] == [200] * 5 + [429]
    assert [int(reply.headers["x-ratelimit-remaining-requests"]) for reply in replies] == [4, 3, 2, 1, 0, 0]
    assert {reply.headers["x-ratelimit-limit-requests"] for reply in replies} == {"5"}
    resets = [float(reply.headers["x-ratelimit-reset-requests"].removesuffix("s")) for reply in replies]
    assert resets == pytest.approx([12, 24, 36, 48, 60, 60], abs=5)
    assert 7 < int(replies[-1].headers["retry-after-ms"]) / 1000 <= 12
    failed = httpx.post(f"{url}/chat/completions", json={**body, "model": "paced-broken"})
    assert (failed.status_code, failed.headers["x-ratelimit-remaining-requests"]) == (401, "4")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(f"{url}/chat/completions", json={**body, "model": "paced-reset"})


def test_max_tokens_cuts_the_answer(client):
    choice = ask(client, "long", max_tokens=3).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("abcd" * 3, "length")


def test_streamed_answer_is_the_same_in_pieces_and_ends_with_usage(client):
    with ask(client, "long", stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "abcd" * 20
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 20
    assert all(chunk.object == "chat.completion.chunk" and chunk.simulated for chunk in chunks)


def test_stream_ends_with_done(url):
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    reply = httpx.post(f"{url}/chat/completions", json=body)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.endswith("data: [DONE]\n\n")
    assert '"usage"' not in reply.text


def test_answer_takes_the_latency_and_the_time_per_token(client):
    start = time.monotonic()
    ask(client, "slow")
    assert time.monotonic() - start >= 0.2
    start = time.monotonic()
    ask(client, "long")
    assert time.monotonic() - start >= 20 * 0.01


def test_models_are_listed(client, url):
    assert [model.id for model in client.models.list()] == list(MODELS)
    assert httpx.get(url.removesuffix("/v1") + "/healthz").status_code == 200


def test_retry_of_a_failed_request_may_succeed_and_runs_are_repeatable(tmp_path):
    def run(folder: Path) -> list[bool]:
        folder.mkdir()
        with serve(folder, MODELS) as (_, url), openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client:
            return [succeeds(client, str(number)) for number in range(10) for _ in range(4)]

    def succeeds(client: openai.OpenAI, text: str) -> bool:
        try:
            return bool(ask(client, "flaky", text))
        except openai.InternalServerError:
            return False

    # when
    first = run(tmp_path / "first")

    # then
    assert 8 <= sum(first) <= 32
    assert any(len(set(first[start : start + 4])) == 2 for start in range(0, 40, 4))
    assert run(tmp_path / "second") == first


def test_concurrency_limit_refuses_further_requests_for_a_second(url):
    async def ask_three() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, "two") for _ in range(3)), return_exceptions=True)

    # when
    replies = asyncio.run(ask_three())

    # then
    [refused] = [reply for reply in replies if isinstance(reply, Exception)]
    assert isinstance(refused, openai.RateLimitError)
    assert refused.response.headers["retry-after"] == "1"
    assert stats(url, "two") == {"requests": 3, "in_flight": 0, "peak_in_flight": 2, "errors": 1}


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("bad_request", openai.BadRequestError),
        ("unauthorized", openai.AuthenticationError),
        ("not_found", openai.NotFoundError),
        ("limited", openai.RateLimitError),
        ("reset", openai.APIConnectionError),
        ("unknown", openai.NotFoundError),
    ],
)
def test_declared_failure_reaches_the_client(client, model, error):
    with pytest.raises(error) as caught:
        ask(client, model)
    if model != "reset":
        assert set(caught.value.body) == {"message", "type", "param", "code"}


def test_failure_may_be_an_answer_without_json(url):
    body = {"messages": [{"role": "user", "content": "Hi"}]}
    html = httpx.post(f"{url}/chat/completions", json={"model": "html", **body})
    empty = httpx.post(f"{url}/chat/completions", json={"model": "empty", **body})
    assert (html.status_code, html.headers["content-type"]) == (200, "text/html")
    assert (empty.status_code, empty.content) == (200, b"")


def test_model_that_never_answers_is_free_when_the_client_leaves(client, url):
    with pytest.raises(openai.APITimeoutError):
        ask(client, "never", timeout=0.3)
    wait_for(lambda: stats(url, "never")["in_flight"] == 0, "the counts")
    assert stats(url, "never") == {"requests": 1, "in_flight": 0, "peak_in_flight": 1, "errors": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"model": 1}',
        b'{"model": "echo"}',
        b'{"model": "echo", "messages": []}',
        b'{"model": "echo", "messages": ["Hi"]}',
        b'{"model": "echo", "messages": [{"role": "user", "content": "Hi"}], "n": [2]}',
        b"[" * 100_000,
    ],
)
def test_invalid_request_is_answered_400_in_openai_s_shape(url, body):
    reply = httpx.post(f"{url}/chat/completions", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["type"] == "invalid_request_error"
    assert reply.headers["x-simulated"] == "true"


def test_content_in_parts_is_read(client):
    parts = [{"type": "text", "text": "I was"}, {"type": "text", "text": "charged"}]
    assert ask(client, "billing", parts).choices[0].message.content == "billing"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_at_once_even_with_open_requests(tmp_path, number):
    with serve(tmp_path, MODELS) as (process, url):
        address = httpx.URL(url)
        body = json.dumps({"model": "endless", "messages": [{"role": "user", "content": "Hi"}]}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        with socket.create_connection((address.host, address.port)) as open_request:
            open_request.sendall(head + body)
            wait_for(lambda: stats(url, "endless")["in_flight"] == 1, "the counts")
            process.send_signal(number)
            assert process.wait(DEADLINE) == 0


def test_address_is_written_to_a_descriptor(tmp_path):
    # given
    file = tmp_path / "models.json"
    file.write_text('{"echo": {}}')
    reader, writer = os.pipe()

    # when
    command = [sys.executable, "-m", "ops.embedded.simulated", "--models", str(file), "--ready-fd", str(writer)]
    process = subprocess.Popen(command, cwd=REPOSITORY, pass_fds=[writer])
    os.close(writer)
    with os.fdopen(reader) as pipe:
        url = pipe.read().strip()

    # then
    try:
        assert httpx.get(f"{url}/models").json()["data"][0]["id"] == "echo"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("models", "arguments", "text_"),
    [
        ("{}", ["--host", "0.0.0.0"], "not a loopback address"),
        ('{"m": {"latancy": 1}}', [], "latancy"),
        ("{", [], "--models"),
    ],
)
def test_wrong_options_are_reported_and_nothing_is_served(tmp_path, models, arguments, text_):
    file = tmp_path / "models.json"
    file.write_text(models)
    command = [sys.executable, "-m", "ops.embedded.simulated", "--models", str(file), *arguments]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    assert text_ in ended.stderr


def test_port_in_use_is_reported(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        file = tmp_path / "models.json"
        file.write_text("{}")
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "ops.embedded.simulated", "--models", str(file), "--port", port]
        ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 2
    assert f"--port {port}: Address already in use" in ended.stderr
