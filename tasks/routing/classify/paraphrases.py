"""Paraphrases of the examples, which a model was asked for once: by content, so a changed example has none.

`pointsman config augment` asks for them; the file stands beside the configuration, and routers only read it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tasks.config.config import Config
from tasks.config.routes import Augmentation
from tasks.contract.errors import ConfigError

_FILE: TypeAdapter[dict[str, tuple[str, ...]]] = TypeAdapter(dict[str, tuple[str, ...]])


def read_paraphrases(config: Config) -> Mapping[str, tuple[str, ...]]:
    """The paraphrases that are kept, by example of any route; none where no model is configured or was asked.

    Raises:
        ConfigError: if the file can't be read.
    """
    augment = config.classifier.augment
    if augment is None:
        return {}
    kept = read_kept(config.folder / augment.file)
    texts = {text for route in config.all_routes.values() for text in route.examples}
    return {text: kept[key] for text in sorted(texts) if (key := paraphrases_key(augment, text)) in kept}


def read_kept(path: Path) -> dict[str, tuple[str, ...]]:
    """All that a file keeps, by key; nothing if there is no file yet.

    Raises:
        ConfigError: if the file is damaged.
    """
    try:
        return _FILE.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError):
        raise ConfigError(
            f"classifier.augment.file: {path} can't be read; delete it and run `pointsman config augment`"
        ) from None


def paraphrases_key(augment: Augmentation, text: str) -> str:
    """The key of the paraphrases of one example: a hash of all that they follow from."""
    material: list[Any] = [augment.model, augment.paraphrases, text]
    return hashlib.sha256(json.dumps(material).encode()).hexdigest()[:32]
