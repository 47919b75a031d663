"""Encoders of texts into vectors for the classifier: none, a packaged one, or an embeddings API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tasks.contract.errors import ConfigError
from tasks.routing.classify.features import Floats


class Encoder(Protocol):
    """Safe to share between threads. Every call may take milliseconds or the network: none on an event loop."""

    @property
    def fingerprint(self) -> str:
        """Equal for encoders that give equal vectors; part of the name of what is cached."""
        ...

    def prepare(self) -> None:
        """Load what is local, so that the first job need not wait for it. Asks no network."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (texts, dimensions), in the order of `texts`.

        Raises:
            EncoderFailed: if it returned none.
        """
        ...


def encoder_named(name: str) -> Encoder | None:
    """The encoder that a configuration or ``--encoder`` names: ``none``, ``embed``, ``embed:FOLDER`` or a URL.

    A folder holds the two files of the packaged encoder, ``model.onnx`` and ``tokenizer.json``, from another source.

    A URL is that of an OpenAI-compatible API (``http://127.0.0.1:8000/v1``), with ``?model=NAME`` where it serves more
    than one model. Nothing is loaded or asked yet.

    Raises:
        ConfigError: if there is no such encoder.
    """
    if name == "none":
        return None
    if name == "embed" or name.startswith("embed:"):
        from tasks.routing.classify.minilm import MiniLM  # noqa: PLC0415 - slow to load, and few configurations need it

        folder = name.removeprefix("embed").removeprefix(":")
        return MiniLM(Path(folder).expanduser() if folder else None)
    if name.startswith(("http://", "https://")):
        from tasks.routing.classify.endpoint import Endpoint  # noqa: PLC0415 - as above

        return Endpoint(name)
    raise ConfigError(
        f"classifier.encoder: {name!r} is none of none, embed, embed:FOLDER, or a URL of an embeddings API"
    )
