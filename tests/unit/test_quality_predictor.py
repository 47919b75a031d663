"""What is learned from graded texts: who answers which texts well; the same on every run, and after a restart."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.contract.errors import ConfigError
from tasks.routing.quality.outcomes import Outcomes
from tasks.routing.quality.predictor import QualityPredictor, fit_to_file
from tasks.routing.quality.surface import NAMES, measure_surface, surface_rows
from tasks.routing.quality.trees import Growth, Trees

STRANGE = [
    "",
    " ",
    "\x00\x01",
    "🦊" * 50,
    "日本語のテキスト",
    "a" * 1_000_000,
    "\ud800",
    "A. B. C.\nA. x\n(",
    "１２３ ²",
]


def outcomes(count=300, *, seed=0, source="made up"):
    """Two kinds of prompts: the small model does the sums, the large one the letters; both miss some."""
    chance = np.random.default_rng(seed)
    prompts, grades = [], []
    for at in range(count):
        sums = at % 2 == 0
        if sums:
            prompts.append(f"How much is {chance.integers(1000)} + {chance.integers(1000)}?")
        else:
            whom = chance.choice(["aunt", "teacher", "landlord", "neighbour"])
            prompts.append(f"Write a friendly letter to my {whom} about item {at}, and thank for the flowers.")
        right = chance.random(2) < ((0.95, 0.6) if sums else (0.1, 0.9))
        grades.append(right.astype(float))
    return Outcomes(source, tuple(prompts), ("small", "large"), np.array(grades))


@pytest.fixture(scope="module")
def predictor():
    return QualityPredictor.fit(outcomes(600))


def test_predictor_learns_which_model_is_good_at_which_texts(predictor):
    sums = predictor.predict("How much is 17 + 4?")
    letter = predictor.predict("Write a friendly letter to my uncle, and thank for the cake.")
    assert list(sums) == ["small", "large"]
    assert sums["small"] > 0.75 > sums["large"]
    assert letter["large"] > 0.7 > letter["small"] + 0.1


def test_mean_prediction_is_about_the_mean_grade_of_unseen_texts(predictor):
    unseen = outcomes(400, seed=1)
    predicted = predictor.predict_all(unseen.prompts)
    assert predicted.mean(axis=0) == pytest.approx(unseen.correct.mean(axis=0), abs=0.06)


def test_predictor_is_deterministic(predictor):
    again = QualityPredictor.fit(outcomes(600))
    texts = outcomes(20, seed=2).prompts
    assert np.array_equal(again.predict_all(texts), predictor.predict_all(texts))


def test_predictor_gives_one_text_the_same_as_among_many(predictor):
    texts = outcomes(10, seed=3).prompts
    many = predictor.predict_all(texts)
    for text, row in zip(texts, many, strict=True):
        assert list(predictor.predict(text).values()) == pytest.approx(list(row), abs=1e-9)


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_predictor_has_probabilities_for_any_text(predictor, text):
    assert all(0 <= value <= 1 for value in predictor.predict(text).values())


def test_predictor_is_fitted_to_any_text():
    strange = tuple(f"{text}{at}" for at in range(3) for text in STRANGE)
    found = QualityPredictor.fit(Outcomes("x", strange, ("a", "b"), np.full((len(strange), 2), 0.5)))
    assert found.predict("anything") == pytest.approx({"a": 0.5, "b": 0.5})


def test_predictor_predicts_many_models_together():
    two = outcomes()
    three = Outcomes("x", two.prompts, ("a", "b", "c"), np.hstack([two.correct, 1 - two.correct[:, :1]]))
    message = QualityPredictor.fit(three).predict("How much is 17 + 4?")
    assert message["a"] > message["b"] > message["c"]


@pytest.mark.parametrize(
    ("few", "message"),
    [
        (Outcomes("f.csv", ("x",) * 30, ("a",), np.ones((30, 1))), "f.csv: has one model"),
        (Outcomes("f.csv", ("x",) * 19, ("a", "b"), np.ones((19, 2))), "f.csv: has 19 graded prompts; at least 20"),
    ],
)
def test_too_little_to_learn_from_is_an_error(few, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        QualityPredictor.fit(few)


def write_outcomes(path, some):
    lines = [f'"{text}",{grades[0]},{grades[1]}' for text, grades in zip(some.prompts, some.correct, strict=True)]
    path.write_text("\n".join(["prompt,small_correct,large_correct", *lines]), encoding="utf-8")
    return path


def fit_cached(tmp_path, *, seed=0, name="outcomes.csv"):
    file = write_outcomes(tmp_path / name, outcomes(40, seed=seed))
    return fit_to_file(file, ["small", "large"], cache=tmp_path / "cache")


def test_cached_predictor_predicts_the_same_without_a_fit(tmp_path, monkeypatch):
    first = fit_cached(tmp_path)
    monkeypatch.setattr(QualityPredictor, "fit", None)
    second = fit_cached(tmp_path, name="another.csv")
    texts = [*outcomes(10, seed=5).prompts, *STRANGE]
    assert np.array_equal(first.predict_all(texts), second.predict_all(texts))
    assert second.models == first.models


def test_cache_holds_one_file_for_each_table(tmp_path):
    fit_cached(tmp_path)
    fit_cached(tmp_path, seed=9)
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", None])
def test_damaged_cache_is_fitted_again(tmp_path, damage):
    fit_cached(tmp_path)
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    fit_cached(tmp_path)
    assert file.read_bytes() == whole
    assert list((tmp_path / "cache").iterdir()) == [file]


def test_cache_that_is_no_folder_costs_only_a_fit(tmp_path):
    (tmp_path / "cache").touch()
    assert fit_cached(tmp_path).models == ("small", "large")


def test_cache_holds_no_prompt(tmp_path):
    fit_cached(tmp_path)
    (file,) = (tmp_path / "cache").iterdir()
    assert b"How much is" not in file.read_bytes()


def test_looks_are_the_same_columns_for_any_text():
    assert surface_rows(STRANGE).shape == (len(STRANGE), len(NAMES))
    assert np.isfinite(surface_rows(STRANGE)).all()
    assert surface_rows([]).shape == (0, len(NAMES))


def test_looks_see_options_numbers_and_the_kind_of_a_question():
    message = measure_surface("Which of these is not a prime?\nA. 7\nB. 91\nC. all of these\nD. None")
    assert (message["options"], message["options with a digit"], message["an option combines others"]) == (4, 0.5, True)
    assert (message["negation"], message["which or what"], message["why or how"]) == (True, True, False)
    assert measure_surface("How many eggs?")["a calculation"]


def test_trees_learn_a_step_and_its_exception():
    chance = np.random.default_rng(0)
    rows = chance.uniform(size=(2_000, 6))
    truth = ((rows[:, 2] > 0.5) & (rows[:, 4] < 0.5)).astype(float)[:, None]
    targets = truth + chance.normal(scale=0.3, size=truth.shape)
    message = Trees.fit(rows, targets, growth=Growth(columns=1.0)).predict(rows)
    assert np.abs(message - truth).mean() < 0.1


def test_trees_leave_noise_alone():
    chance = np.random.default_rng(0)
    rows, noise = chance.uniform(size=(300, 20)), chance.normal(size=(300, 1))
    message = Trees.fit(rows[:200], noise[:200]).predict(rows[200:])
    assert message.std() < 0.4


def test_configuration_gets_predictions_for_the_models_that_it_has(tmp_path):
    file = tmp_path / "outcomes.csv"
    lines = [f"How much is {at} + 1?,1,0,1" for at in range(30)]
    file.write_text("\n".join(["prompt,a_correct,b_correct,gone_correct", *lines]), encoding="utf-8")
    found = fit_to_file(file, ["b", "a", "c"], cache=tmp_path / "cache")
    assert found.predict("How much is 7 + 1?") == pytest.approx({"a": 1.0, "b": 0.0})
    assert len(list((tmp_path / "cache").iterdir())) == 1
    with pytest.raises(ConfigError, match="at least two must be in both"):
        fit_to_file(file, ["a", "c"])
