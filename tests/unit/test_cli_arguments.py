"""The command line without a server: mistakes, inputs and dry runs."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from ops.cli import main
from ops.cli.cmd_submit import read_options
from ops.cli.exits import Exit, Failure
from ops.cli.inputs import pairs, read_documents, read_text, values

CONFIG = """\
models:
  fast: {provider: simulated, capacity: 4, price: {input: 0.15, output: 0.6}}
  slow: {provider: simulated, capacity: 2}
routes:
  billing: {keywords: [invoice], models: [fast]}
  general: {models: [fast, slow], strategy: round_robin}
default_route: general
"""


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch):
    """A directory with a configuration, and no server anywhere."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pointsman.yaml").write_text(CONFIG)
    for name in ("POINTSMAN_CONFIG", "POINTSMAN_STATE_DIR", "POINTSMAN_DEBUG"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("POINTSMAN_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("POINTSMAN_REDIS_URL", f"unix://{tmp_path}/missing.sock")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["sumbit"], "Did you mean 'submit'?"),
        (["submit", "--bogus"], "No such option: --bogus"),
        (["status"], "Missing argument"),
        (["submit", "hi", "-n", "many"], "-n"),
        (["submit", "hi", "--label", "x"], "--label 'x' is not name=value"),
        (["submit", "hi", "--file", "pointsman.yaml"], "both TEXT and --file"),
        (["submit", "--file", "nothing.txt"], "nothing.txt can't be read"),
        (["pools", "scale", "fast"], "either N or --reset"),
        (["pools", "scale", "fast", "4", "--reset"], "either N or --reset"),
        (["pools", "scale", "fats", "4"], "'fats' is not known"),
        (["pools", "scale", "fast", "--", "-1"], "greater than or equal to 0"),
        (["models", "--config", "nothing.yaml"], "nothing.yaml: no such file"),
        (["submit", "a\udcffb"], "not UTF-8"),
    ],
)
def test_mistake_is_one_sentence_and_exit_code_2(capsys, arguments, word):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (Exit.USAGE, "")
    assert err.startswith("pointsman: error: ")
    assert word in err
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [["submit", "--bogus"], ["pools", "scale", "fats", "4"], ["status"]])
def test_mistake_with_json_is_an_object_on_stdout_too(capsys, arguments):
    code, out, err = run(capsys, *arguments, "--json")
    error = json.loads(out)["error"]
    assert code == Exit.USAGE
    assert set(error) == {"code", "message", "field", "remedy"}
    assert err.startswith("pointsman: error: ")


def test_config_check_prints_a_line_for_each_problem(capsys, tmp_path):
    (tmp_path / "pointsman.yaml").write_text(CONFIG.replace("[fast]", "[fats]").replace("capacity: 2", "capacity: 0"))
    code, _, err = run(capsys, "config", "check")
    assert code == Exit.USAGE
    assert "pointsman: error: pointsman.yaml:3: models.slow.capacity:" in err


def test_unreachable_redis_is_exit_code_3_with_a_remedy(capsys):
    for arguments in (["status", "x"], ["submit", "hi"], ["pools"], ["cancel", "x"], ["batch", "list"]):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (Exit.UNREACHABLE, "")
        assert "No such file or directory" in err
        assert "pointsman up" in err


def test_url_of_another_scheme_is_bad_configuration(capsys, monkeypatch):
    monkeypatch.setenv("POINTSMAN_REDIS_URL", "http://127.0.0.1:1")
    assert run(capsys, "status", "x")[0] == Exit.USAGE


def test_dry_run_assumes_an_idle_fleet_without_redis(capsys):
    code, out, err = run(capsys, "route", "the invoice is wrong")
    assert code == Exit.OK
    assert "route       billing" in out
    assert "rules, confidence" in out
    assert "an idle fleet is assumed" in err


def test_dry_run_names_all_models_of_a_rotation(capsys):
    _, out, _ = run(capsys, "route", "anything else", "--json")
    decision = json.loads(out)
    assert (decision["route"], decision["turns"], decision["live"]) == ("general", ["fast", "slow"], False)


def test_models_lists_models_with_their_routes(capsys):
    code, out, _ = run(capsys, "models", "--json")
    assert code == Exit.OK
    assert [(model["name"], model["routes"]) for model in json.loads(out)] == [
        ("fast", ["billing", "general"]),
        ("slow", ["general"]),
    ]


def test_config_schema_prints_json(capsys):
    code, out, _ = run(capsys, "config", "schema")
    assert code == Exit.OK
    assert "models" in json.loads(out)["properties"]


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_prints_the_version(capsys, arguments):
    code, out, _ = run(capsys, *arguments)
    assert code == Exit.OK
    assert out.startswith("pointsman ")


def test_defect_prints_its_traceback_only_on_request(capsys, monkeypatch):
    def broken(_path):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("tasks.loading.load.load", broken)
    code, _, err = run(capsys, "models")
    assert code == Exit.INTERNAL
    assert "ZeroDivisionError: a defect" in err
    assert "Traceback" not in err
    code, _, err = run(capsys, "models", "--verbose")
    assert code == Exit.INTERNAL
    assert "Traceback" in err


def test_read_text_reads_a_pipe_or_a_file(monkeypatch, tmp_path):
    pipe(monkeypatch, "Grüße\n".encode())
    assert read_text(None, None) == "Grüße\n"
    pipe(monkeypatch, b"\xef\xbb\xbfwith a mark")
    assert read_text("-", None) == "with a mark"
    (tmp_path / "text").write_text("from a file")
    assert read_text(None, tmp_path / "text") == "from a file"


def test_read_text_reads_documents_by_their_kind(tmp_path):
    (tmp_path / "page.html").write_text("<h1>One</h1>")
    assert read_text(None, tmp_path / "page.html") == "# One\n"
    (tmp_path / "page.pdf").write_text("no PDF")
    with pytest.raises(Failure, match="is called a PDF, but is none"):
        read_text(None, tmp_path / "page.pdf")


def test_read_documents_keeps_the_names_of_files(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc")
    assert read_documents(None, [tmp_path / "a.txt"]) == [{"name": "a.txt", "data": "YWJj"}]
    assert read_documents("text", []) is None
    assert read_documents(None, [Path("-")]) is None
    with pytest.raises(Failure, match="both TEXT and --file"):
        read_documents("text", [tmp_path / "a.txt"])
    (tmp_path / "empty.txt").touch()
    with pytest.raises(Failure, match="is empty"):
        read_documents(None, [tmp_path / "empty.txt"])


def test_read_text_leaves_a_pipe_alone_where_no_text_is_needed(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert read_text(None, None, needed=False) is None
    assert read_text("given", None) == "given"


def test_read_text_does_not_wait_for_a_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(Failure, match="no text is given"):
        read_text(None, None)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"caf\xe9"])
def test_read_text_refuses_other_encodings_than_utf_8(monkeypatch, tmp_path, data):
    pipe(monkeypatch, data)
    with pytest.raises(Failure, match="not UTF-8"):
        read_text("-", None)
    (tmp_path / "text").write_bytes(data)
    with pytest.raises(Failure, match=r"not UTF-8|not text in utf-16-le"):
        read_text(None, tmp_path / "text")


def test_labels_are_texts_and_metadata_may_be_json():
    assert pairs("label", ["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    given = ["n=3", "s=x", 't="3"', 'o={"a": [1]}', "b=true", "nan=NaN", "empty="]
    assert values("metadata", given) == {
        "n": 3, "s": "x", "t": "3", "o": {"a": [1]}, "b": True, "nan": "NaN", "empty": "",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["[]", '{"text": "a"}\n{"text": "b"}', "", "no json", "7"])
def test_read_job_refuses_a_file_without_one_job(capsys, tmp_path, text):
    (tmp_path / "job.json").write_text(text or " ")
    code, _, err = run(capsys, "submit", "--job", "job.json")
    assert code == Exit.USAGE
    assert "job.json" in err


def test_read_options_returns_the_fields_of_a_job():
    read = read_options({"n": 3, "labels": ("a=1",), "metadata": ("a=1",), "items": ("x", "y"), "join_options": ()})
    assert read == {"n": 3, "labels": {"a": "1"}, "metadata": {"a": 1}, "items": ("x", "y")}
