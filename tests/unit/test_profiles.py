"""The profile file as routing reads it: measured scores, typed-in ones before them, and files that are damaged."""

from __future__ import annotations

import json

import pytest

from tasks.config.models import Profile
from tasks.config.profiles import MeasuredProfile, read_profiles, scores_of
from tasks.contract.errors import ConfigError

MODEL = {
    "measured_at": "2026-11-22T12:00:00Z",
    "run": "r",
    "eval": {"name": "cases.jsonl", "sha256": "0" * 64, "cases": 3},
    "scores": {"speed": 70.5, "accuracy": 80, "creativity": None, "ethics": None, "cost": 95},
    "routes": {"billing": {"score": 90, "low": 60, "high": 98, "right": 9, "n": 10}},
    "asked": 12,
}


def write(tmp_path, value):
    path = tmp_path / "profiles.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_measured_model_has_its_scores_and_its_routes(tmp_path):
    path = write(tmp_path, {"schema_version": 1, "models": {"fast": MODEL}})
    assert read_profiles(path) == {
        "fast": MeasuredProfile(speed=70.5, accuracy=80, cost=95, routes={"billing": 90})
    }  # fmt: skip


def test_accuracy_of_a_route_goes_before_the_one_over_all():
    measured = MeasuredProfile(accuracy=80, speed=70, routes={"billing": 90})
    assert scores_of(Profile(), measured, route="billing") == {"accuracy": 90, "speed": 70}
    assert scores_of(Profile(), measured, route="other") == {"accuracy": 80, "speed": 70}


def test_configured_scores_override_measured_ones_metric_by_metric():
    measured = MeasuredProfile(accuracy=80, speed=70, ethics=60, routes={"billing": 90})
    typed = Profile(accuracy=50, creativity=0)
    assert scores_of(typed, measured, route="billing") == {"accuracy": 50, "speed": 70, "ethics": 60, "creativity": 0}


def test_unknown_scores_are_left_out():
    assert scores_of(Profile(), None) == {}
    assert scores_of(Profile(), MeasuredProfile()) == {}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "profiles.json:1: is not JSON"),
        ('{"schema_version": 1,\n"models": {', "profiles.json:2: is not JSON"),
        ("[]", "the document: input should be"),
        ({"models": {"fast": {**MODEL, "asked": None}}}, "models.fast.asked: "),
        ({"schema_version": 2, "models": {}}, "schema_version: is 2"),
        ({"models": {"fast": {**MODEL, "scores": {"accuracy": 101}}}}, "models.fast.scores.accuracy: "),
        ({"models": {"fast": {**MODEL, "scores": {"wit": 5}}}}, "models.fast.scores.wit: is not a field here"),
        ({"models": {"fast": {key: MODEL[key] for key in MODEL if key != "run"}}}, "models.fast.run: is missing"),
        ('{"models": {"fast": {"scores": {"speed": NaN}}}}', "models.fast.scores.speed: "),
        ("[" * 100_000, "is nested too deeply"),
    ],
)
def test_damaged_file_is_an_error_with_field_and_remedy(tmp_path, value, problem):
    with pytest.raises(ConfigError, match=r"measure into a new file, `pointsman profile") as caught:
        read_profiles(write(tmp_path, value))
    assert problem in str(caught.value)


def test_file_that_is_not_there_says_how_to_make_it(tmp_path):
    with pytest.raises(ConfigError, match=r"no such file; measure into a new file"):
        read_profiles(tmp_path / "profiles.json")


def test_file_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "profiles.json").write_bytes(b'{"models": "\xff"}')
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read_profiles(tmp_path / "profiles.json")
