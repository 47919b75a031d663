"""Graded answers: what is read from CSV and JSON lines, and how a bad file is reported."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tasks.contract.errors import ConfigError
from tasks.routing.quality.outcomes import read_outcomes, read_prices


def written(folder, name, text):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_gives_prompts_models_and_grades(tmp_path):
    path = written(
        tmp_path,
        "a.csv",
        'subject,prompt,weak_correct,strong_correct\nmaths,"two\nlines, and more",0,1\nx,y,0.25,True\n',
    )
    found = read_outcomes(path)
    assert found.prompts == ("two\nlines, and more", "y")
    assert found.models == ("weak", "strong")
    assert found.correct.tolist() == [[0, 1], [0.25, 1]]
    assert found.costs is None


def test_json_lines_may_hold_the_grades_as_an_object_or_flat(tmp_path):
    nested = written(
        tmp_path,
        "a.jsonl",
        '{"question": "a", "scores": {"s": 1, "t": 0.5}}\n\n{"question": "b", "scores": {"t": false, "s": 0}}\n',
    )
    flat = written(
        tmp_path,
        "b.jsonl",
        '{"prompt": "a", "s_correct": 1, "t_correct": 0.5}\n{"prompt": "b", "t_correct": 0, "s_correct": 0}',
    )
    for found in (read_outcomes(nested), read_outcomes(flat)):
        assert (found.prompts, found.models) == (("a", "b"), ("s", "t"))
        assert found.correct.tolist() == [[1, 0.5], [0, 0]]


def test_costs_come_from_calls_then_the_price_file_then_the_price_column(tmp_path):
    path = written(
        tmp_path,
        "a.csv",
        "prompt,s_correct,s_cost,t_correct,t_price,u_correct,u_price\nWhat is a tree?,1,0.5,0,2,1,4\n",
    )
    found = read_outcomes(path, prices={"t": (0.0, 4.0)})
    assert found.costs is not None
    own, from_file, from_column = found.costs[0]
    assert own == 0.5
    assert from_file == pytest.approx(250 * 4 / 1e6)
    # The price of the column holds for input and output.
    assert 250 * 4 / 1e6 < from_column < 300 * 4 / 1e6


def test_prices_are_read_in_all_their_spellings(tmp_path):
    message = {"a": {"usd_per_1m_input": 0.1, "usd_per_1m_output": 0.2}, "b": {"input": 1, "output": 2}, "c": 3}
    found = read_prices(written(tmp_path, "prices.json", json.dumps(message)))
    assert found == {"a": (0.1, 0.2), "b": (1.0, 2.0), "c": (3.0, 3.0)}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", "", "is empty"),
        ("prompt,a_correct\n", "", "has no rows"),
        ("text_of_it,a_correct\nx,1\n", ":2", "has no prompt"),
        ("prompt,a\nx,1\n", ":2", "<model>_correct"),
        ("prompt,a_correct\nx,1\ny,2\n", ":3", "a_correct: must be 0, 1 or between"),
        ("prompt,a_correct\nx,\n", ":2", "leave rows out that were not graded"),
        ("prompt,a_correct\nx,nan\n", ":2", "a_correct: must be 0, 1 or between"),
        ("prompt,a_correct\n ,1\n", ":2", "prompt: is missing or blank"),
        ("prompt,a_correct\nx,1,2\n", ":2", "has 3 cells, the first line names 2"),
        ("prompt,a_correct,a_correct\nx,1,1\n", ":1", "'a_correct' stands twice"),
        ('prompt,a_correct\n"x,1\n', ":2", "is not CSV"),
        ("prompt,a_correct,a_cost\nx,1,-1\n", ":2", "a_cost: must be a number of USD"),
        ("prompt,a_correct,b_correct,a_cost\nx,1,1,1\n", "", "b: has no price, others have"),
    ],
)
def test_bad_csv_is_an_error_with_its_place_and_remedy(tmp_path, text, place, message):
    path = written(tmp_path, "bad.csv", text)
    with pytest.raises(ConfigError) as caught:
        read_outcomes(path)
    assert str(caught.value).startswith(f"{path}{place}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"prompt": "x", "scores": {"a": 1}}\nnonsense', ":2: is not JSON"),
        ('{"prompt": "x", "scores": {"a": 1}}\n[1]', ":2: must be an object"),
        ('{"prompt": "x", "scores": {"a": 1}}\n{"prompt": "y", "scores": {"b": 1}}', ":2: a_correct: must be 0"),
        ('{"prompt": 7, "scores": {"a": 1}}', ":1: prompt: is missing or blank"),
        ('{"prompt": "x", "scores": 1}', ":1: has no grades"),
        ('{"prompt": "x", "scores": {"a": NaN}}', ":1: a_correct: must be 0"),
    ],
)
def test_bad_json_lines_are_errors_with_their_line(tmp_path, text, message):
    path = written(tmp_path, "bad.jsonl", text)
    with pytest.raises(ConfigError) as caught:
        read_outcomes(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"a": {"input": 1}}', '{"a": {"input": -1, "output": 1}}', '{"a": "1"}']
)
def test_bad_price_file_is_an_error(tmp_path, text):
    with pytest.raises(ConfigError, match=r"prices\.json"):
        read_prices(written(tmp_path, "prices.json", text))


def test_files_that_are_not_there_or_no_text_are_errors(tmp_path):
    binary = tmp_path / "b.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in ((tmp_path / "none.csv", "No such file"), (binary, "is not UTF-8")):
        with pytest.raises(ConfigError, match=message):
            read_outcomes(path)


def test_errors_hold_no_prompt(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,a_correct\nmy secret,2\n")
    with pytest.raises(ConfigError) as caught:
        read_outcomes(path)
    assert "secret" not in str(caught.value)


def test_prices_for_other_models_are_errors(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,a_correct\nx,1\n")
    with pytest.raises(ConfigError, match="none of its models has a price"):
        read_outcomes(path, prices={"b": (1, 1)})


def test_models_are_put_in_the_order_that_is_asked_for(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,a_correct,b_correct,a_cost,b_cost\nx,1,0,2,3\n")
    found = read_outcomes(path).of_models(["b", "a"])
    assert (found.models, found.correct.tolist()) == (("b", "a"), [[0, 1]])
    assert found.costs is not None
    assert found.costs.tolist() == [[3, 2]]
    with pytest.raises(ConfigError, match="has no grades of c"):
        found.of_models(["a", "c"])


def test_fingerprint_follows_what_a_predictor_is_fitted_to(tmp_path):
    one = read_outcomes(written(tmp_path, "a.csv", "prompt,a_correct\nx,1\n"))
    same = read_outcomes(written(tmp_path, "b.csv", "note,prompt,a_correct\nn,x,1\n"))
    other = read_outcomes(written(tmp_path, "c.csv", "prompt,a_correct\nx,0\n"))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_prompt_of_a_megabyte_is_read(tmp_path):
    path = written(tmp_path, "a.csv", "prompt,a_correct\n" + "x" * 1_000_000 + ",1\n")
    found = read_outcomes(path)
    assert len(found.prompts[0]) == 1_000_000
    assert found.correct.dtype == np.float64
