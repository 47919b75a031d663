"""`pointsman run`: what becomes of the files that it is given."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from ops.cli.cmd_run import read_input
from ops.cli.exits import Failure
from tasks.config.library import Workflow

MESSAGES = [{"role": "user", "content": "Hi"}]


def flow(*inputs, example=None):
    return Workflow("flow", Path(), "x", inputs, {}, (), example=example)


def file(folder, name, content):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("inputs", "name", "content", "given"),
    [
        (["text"], "a.md", "# A", {"text": "# A"}),
        (["text"], "a.json", '["a"]', {"text": '["a"]'}),
        (["items"], "a.json", ["a", "b"], {"items": ["a", "b"]}),
        (["items"], "a.jsonl", '"a"\n{"text": "b"}\n', {"items": ["a", {"text": "b"}]}),
        (["items"], "a.md", "# A", {"items": [{"text": "# A", "title": "a.md"}]}),
        (["messages"], "a.json", MESSAGES, {"messages": MESSAGES}),
        (["messages"], "a.txt", "Hi", {"text": "Hi"}),
        (["items", "messages"], "a.json", MESSAGES, {"messages": MESSAGES}),
        (["text"], "a.json", {"text": "A", "metadata": {"b": 1}}, {"text": "A", "metadata": {"b": 1}}),
        (["text"], "a.json", {"some": "object"}, {"text": '{"some": "object"}'}),
        (["text"], "a.json", "{ no JSON", {"text": "{ no JSON"}),
    ],
)
def test_read_input_takes_a_file_as_the_workflow_s_input(tmp_path, inputs, name, content, given):
    assert read_input(flow(*inputs), [file(tmp_path, name, content)]) == given


def test_read_input_makes_an_item_of_each_of_several_files(tmp_path):
    files = [file(tmp_path, "a.md", "A"), file(tmp_path, "b.txt", "B")]

    assert read_input(flow("items"), files) == {
        "items": [{"text": "A", "title": "a.md"}, {"text": "B", "title": "b.txt"}]
    }
    with pytest.raises(Failure, match="takes text, one file"):
        read_input(flow("text"), files)


def test_read_input_without_a_file_takes_the_example(tmp_path):
    assert read_input(flow("text", example=file(tmp_path, "example.md", "E")), []) == {"text": "E"}
    with pytest.raises(Failure, match="has no example"):
        read_input(flow("text"), [])


def test_read_input_parses_standard_input(monkeypatch):
    for text, given in (("plain", {"text": "plain"}), (json.dumps(MESSAGES), {"messages": MESSAGES})):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

        assert read_input(flow("messages"), [Path("-")]) == given


def test_read_input_names_a_missing_file(tmp_path):
    with pytest.raises(Failure, match=r"no\.md can't be read: No such file"):
        read_input(flow("text"), [tmp_path / "no.md"])
