"""`pointsman bench` where the benchmarks are, and where they are not: in an installed wheel."""

from __future__ import annotations

import importlib.util
import tomllib

from ops.cli import main
from ops.cli.exits import Exit
from tests.harness import REPOSITORY


def test_wheel_leaves_out_the_benchmarks():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"] == ["ops/bench"]


def test_bench_without_the_benchmarks_names_the_checkout(capsys, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ops.bench" else find_spec(name))
    assert main(["bench", "calls", "--quick"]) == Exit.USAGE
    assert "run `pointsman bench` from a checkout" in capsys.readouterr().err
