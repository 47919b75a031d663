"""``pointsman version``."""

from __future__ import annotations

from ops.cli.arguments import AsJson

__all__ = ["version"]


def version(*, as_json: AsJson = False) -> None:
    """Print the version.

    pointsman version --json
    """
    import platform
    from importlib.metadata import version as version_of

    from ops.cli.render import print_json

    if as_json:
        print_json({"version": version_of("pointsman"), "python": platform.python_version()})
    else:
        print(f"pointsman {version_of('pointsman')}")
