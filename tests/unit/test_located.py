"""YAML files with the line of each value, whichever parser reads them."""

from __future__ import annotations

import pytest
import yaml

from tasks.contract.errors import ConfigError
from tasks.loading.located import MOST_DEPTH, read_yaml

TEXT = """\
# a comment
a: {b: 1, c: [x,
  y]}
d: &anchor
  - e: "ü"
    f: 2026-01-02
g: *anchor
a: again
"""


@pytest.fixture(params=[True, False], ids=["libyaml", "python"])
def parser(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(yaml, "__with_libyaml__", request.param)


@pytest.mark.usefixtures("parser")
class TestReading:
    def test_read_yaml_finds_values_lines_and_duplicate_keys(self):
        file = read_yaml(TEXT, source="x.yaml", needs="a")

        assert file.data == yaml.safe_load(TEXT)
        assert [loc for loc, _ in file.duplicates] == [("a",)]
        assert {loc: file.lines[loc] for loc in [("a", "b"), ("a", "c", 1), ("d", 0, "f"), ("g",), ("a",)]} == {
            ("a", "b"): 2, ("a", "c", 1): 3, ("d", 0, "f"): 6, ("g",): 7, ("a",): 8,
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("a: [", "x.yaml:1: not YAML: "),
            ("a: 1\n b: 2", "x.yaml:2: not YAML: mapping values are not allowed here"),
            ("- a", "x.yaml:1: must be a mapping with a"),
            ("", "x.yaml:1: must be a mapping with a"),
            ("a: 2024-99-99", "x.yaml:1: not YAML: "),
            ("a: &a [*a]", "x.yaml:1: nested too deeply, or an alias that holds itself"),
            ("a: " + "[" * 20_000, "x.yaml:1: nested too deeply"),
            ("a: " + "{a: " * 20_000, "x.yaml:1: nested too deeply"),
            ("a: !!python/object/apply:os.getpid []", "x.yaml:1: not YAML: could not determine a constructor"),
        ],
        ids=range(9),
    )
    def test_read_yaml_reports_invalid_files(self, text, problem):
        with pytest.raises(ConfigError) as caught:
            read_yaml(text, source="x.yaml", needs="a")

        assert str(caught.value).startswith(problem)

    def test_read_yaml_reads_a_file_of_the_greatest_depth(self):
        text = "a: " + "[" * (MOST_DEPTH - 1) + "]" * (MOST_DEPTH - 1)

        assert read_yaml(text, source="x.yaml", needs="a").data["a"]


def test_format_problems_uses_the_nearest_known_line():
    file = read_yaml("a:\n  b: 1\n", source="x.yaml", needs="a")

    lines = file.format_problems([(("a", "b", "c", 0), "is wrong"), ((), "lacks something")], root="file")

    assert lines == "x.yaml:1: file: lacks something\nx.yaml:2: a.b.c[0]: is wrong"
