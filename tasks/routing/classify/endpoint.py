"""Vectors from an OpenAI-compatible embeddings API: vLLM, Ollama, llama.cpp, a provider."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import httpx
import numpy as np

from tasks.config.secrets import read_secret
from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify.features import Floats

#: The variable that holds the key, where the API asks for one.
KEY = "POINTSMAN_EMBEDDINGS_KEY"
#: Texts of one request: OpenAI takes 2,048, others 256 and fewer.
BATCH = 64
#: Characters of a text that are sent: the models read some 500 tokens, and refuse what is much longer.
CHARACTERS = 2_000
#: Seconds for one text, while a job waits for its route, and for a batch of examples at the start of a router.
TIMEOUT_S, BATCH_TIMEOUT_S = 5.0, 60.0
#: Seconds after a failure without a further request: else every job would wait for a server that is away.
PAUSE = 10.0
#: Bytes of an answer at most: 64 vectors of 8,192 numbers in text are 10 MB.
MOST_BYTES = 32 * 1024 * 1024


class Endpoint:
    """An encoder by URL: ``http://host/v1``, with ``?model=NAME`` unless the API serves one model alone.

    Vectors are scaled to length 1. The key comes from POINTSMAN_EMBEDDINGS_KEY. After a failure it fails at once for 10
    seconds.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not parts.hostname:
            raise ConfigError("classifier.encoder: the URL names no host; it is like http://127.0.0.1:8000/v1")
        if parts.username or parts.password:
            raise ConfigError(f"classifier.encoder: the URL holds a password; set {KEY} instead")
        path = parts.path.rstrip("/").removesuffix("/embeddings")
        self._base = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
        self._named = parse_qs(parts.query).get("model", [""])[0]
        self._host = parts.netloc
        self._away_until = 0.0
        key = read_secret(KEY)
        self._client = httpx.Client(headers={"Authorization": f"Bearer {key}"} if key else {}, trust_env=False)

    @cached_property
    def fingerprint(self) -> str:
        return f"endpoint:{self._base}:{self._model}"

    def prepare(self) -> None:
        """There is nothing to load."""

    def encode(self, texts: Sequence[str]) -> Floats:
        if time.monotonic() < self._away_until:
            raise EncoderFailed(f"{self._host} failed a moment ago")
        try:
            timeout_s = TIMEOUT_S if len(texts) == 1 else BATCH_TIMEOUT_S
            vectors = [
                vector
                for start in range(0, len(texts), BATCH)
                for vector in self._embed([_sent(text) for text in texts[start : start + BATCH]], timeout_s)
            ]
        except EncoderFailed:
            self._away_until = time.monotonic() + PAUSE
            raise
        if len({len(vector) for vector in vectors}) > 1:
            raise EncoderFailed(f"{self._host} answered with vectors of different lengths")
        found = np.array(vectors, np.float32)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(length).all() or not found.size:
            raise EncoderFailed(f"{self._host} answered with vectors that are no numbers")
        unit: Floats = found / np.maximum(length, np.float32(1e-12))
        return unit

    def _embed(self, texts: list[str], timeout_s: float) -> list[list[float]]:
        answer = self._ask("POST", "embeddings", timeout_s, {"model": self._model, "input": texts})
        try:
            # The order of the list is not promised, that of the indices is.
            found = {int(item["index"]): [float(number) for number in item["embedding"]] for item in answer["data"]}
            return [found[at] for at in range(len(texts))]
        except (KeyError, TypeError, ValueError):
            raise EncoderFailed(f"{self._host} answered with JSON that is no list of embeddings") from None

    @cached_property
    def _model(self) -> str:
        if self._named:
            return self._named
        answer = self._ask("GET", "models", TIMEOUT_S)
        try:
            names = [str(item["id"]) for item in answer["data"]]
        except (KeyError, TypeError):
            names = []
        if len(names) != 1:
            raise ConfigError(
                f"classifier.encoder: {self._host} serves {len(names)} models; name one: {self._base}?model=NAME"
            )
        return names[0]

    def _ask(self, method: str, path: str, timeout_s: float, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            with self._client.stream(method, f"{self._base}/{path}", json=body, timeout=timeout_s) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise EncoderFailed(f"{self._host} answered {path} with HTTP {answer.status_code}")
                received = bytearray()
                for block in answer.iter_bytes():
                    received += block
                    if len(received) > MOST_BYTES:
                        raise EncoderFailed(f"{self._host} answered with more than {MOST_BYTES >> 20} MB")
            found = httpx.Response(200, content=bytes(received)).json()
        except httpx.HTTPError as error:
            raise EncoderFailed(f"{self._host} did not answer ({type(error).__name__})") from None
        except ValueError:
            raise EncoderFailed(f"{self._host} did not answer with JSON") from None
        if not isinstance(found, dict):
            raise EncoderFailed(f"{self._host} answered with JSON that is no list of embeddings")
        return found


def _sent(text: str) -> str:
    """The part of a text that is sent: never empty, and without halves of surrogate pairs."""
    return text[:CHARACTERS].encode("utf-8", "replace").decode() or " "
