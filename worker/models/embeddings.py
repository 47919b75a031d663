"""OpenAI's embeddings API, which vLLM, Ollama and others serve, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.contract.errors import BadReply
from worker.models.faults import read_error_body
from worker.models.http import Http, Timing
from worker.models.provider import MISSHAPEN

__all__ = ["Embeddings"]

#: Texts of one request. OpenAI takes 2,048, others 256 and fewer; more than some dozens gain nothing.
BATCH = 64


class Embeddings:
    """Makes vectors of texts. `model` is the provider's name for the model, `name` ours."""

    def __init__(self, name: str, model: str, http: Http) -> None:
        self._name = name
        self._model = model
        self._http = http

    async def embed(self, texts: Sequence[str], *, timeout: float) -> list[list[float]]:
        """One vector a text, in their order; `timeout` is in seconds, for each request of at most 64 texts.

        Raises:
            ModelError: as a `ModelClient` does.
        """
        vectors: list[list[float]] = []
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            answer = await self._http.post("embeddings", {"model": self._model, "input": batch}, Timing(timeout))
            vectors += self._read(answer.data, len(batch))
        return vectors

    def _read(self, data: Mapping[str, Any], count: int) -> list[list[float]]:
        if data.get("error"):
            raise read_error_body(self._name, data)
        try:
            # The order of the list is not promised, that of the indices is.
            found = {int(item["index"]): [float(number) for number in item["embedding"]] for item in data["data"]}
            vectors = [found[index] for index in range(count)]
        except MISSHAPEN:
            raise BadReply(self._name, "answered with JSON that is no list of embeddings; is base_url right?") from None
        if not vectors[0] or len({len(vector) for vector in vectors}) > 1:
            raise BadReply(self._name, "answered with embeddings of different lengths")
        return vectors
