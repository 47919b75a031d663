"""``python -m producer.api``: the API alone, on the Redis of ``POINTSMAN_REDIS_URL``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from producer.api.server import DEFAULT_PORT, serve
from tasks.contract.atomic_file import write_at_once
from tasks.contract.errors import ConfigError
from tasks.contract.logs import configure_logs


def main(arguments: list[str] | None = None) -> int:
    """Serve; the exit code is 0 after a signal, 2 for a mistake in the arguments or the configuration."""
    parser = argparse.ArgumentParser(prog="python -m producer.api", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default: %(default)s)")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml"),
        help="the configuration (default: POINTSMAN_CONFIG, or %(default)s)",
    )
    parser.add_argument("--ready-file", type=Path, help="is written, with the base URL, when requests are answered")
    options = parser.parse_args(arguments)

    configure_logs()
    file: Path | None = options.ready_file
    try:
        serve(
            options.config,
            host=options.host,
            port=options.port,
            ready=None if file is None else lambda url: write_at_once(file, url + "\n"),
        )
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
