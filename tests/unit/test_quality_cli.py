"""`pointsman eval cost-quality` and its benchmark: what they print, and how a bad file is reported."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from ops.bench import cost_quality as bench
from ops.cli import main
from ops.cli.exits import Exit


def write(path, count, *, seed, models=("weak", "strong")):
    """Sums, which every model can do, and letters, which only the strong ones can."""
    chance = np.random.default_rng(seed)
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["prompt", *(f"{model}_correct" for model in models)])
        for at in range(count):
            sums = at % 2 == 0
            words = " ".join(chance.choice(["rose", "lily", "fern", "moss", "oak"], 4))
            prompt = (
                f"How much is {chance.integers(1000)} + {at}?" if sums else f"Write a letter about {words}, no {at}."
            )
            chances = [0.9 if sums else 0.1 + 0.7 * place / (len(models) - 1) for place in range(len(models))]
            out.writerow([prompt, *map(int, chance.random(len(models)) < chances)])
    return path


@pytest.fixture
def files(tmp_path):
    return [
        "--train",
        str(write(tmp_path / "a.csv", 200, seed=0)),
        "--test",
        str(write(tmp_path / "b.csv", 120, seed=1)),
    ]


def run(capsys, *arguments):
    code = main(["eval", "cost-quality", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_two_models_have_apgr_and_cpt(files, capsys):
    code, out, _ = run(capsys, *files, "--json")
    assert code == Exit.OK
    text_ = json.loads(out)
    # Half of the prompts need the strong model, and it is seen which.
    assert text_["apgr"] > 0.65
    assert 0 < text_["cpt50"] < 40
    assert text_["cpt50"] < text_["cpt80"] < 70
    assert (text_["weak"], text_["strong"], text_["axis"]) == ("weak", "strong", "share")
    assert text_["recovered_oracle_gap"] is not None
    assert (text_["cost_usd"], text_["calibration"]) == (None, None)
    assert (text_["train_rows"], text_["test_rows"], len(text_["curve"])) == (200, 120, 101)
    assert text_["curve"][0]["accuracy"] == pytest.approx(text_["models"]["weak"]["accuracy"], abs=1e-6)
    assert text_["curve"][-1] == {
        "share": 1.0,
        "accuracy": pytest.approx(text_["models"]["strong"]["accuracy"], abs=1e-6),
        "recovered": 1.0,
    }
    assert min(text_["p50_ms"], text_["fit_s"]) > 0


def test_people_get_a_table_and_a_sketch(files, capsys):
    code, out, _ = run(capsys, *files)
    assert code == Exit.OK
    assert "weak → strong, over calls to the strong model" in out
    assert [line.split()[0] for line in out.splitlines() if "█" in line][-1] == "100%"


def test_curve_of_more_than_two_models_goes_over_cost(tmp_path, capsys):
    models = ("small", "medium", "large")
    train, test = (
        write(tmp_path / name, count, seed=seed, models=models) for name, count, seed in (("a", 200, 0), ("b", 120, 1))
    )
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({"small": 0.1, "medium": {"input": 0.5, "output": 1}, "large": 5}), encoding="utf-8")
    both = ["--train", str(train), "--test", str(test), "--json"]
    _, out, _ = run(capsys, *both)
    assert json.loads(out)["apgr"] is None
    code, out, _ = run(capsys, *both, "--prices", str(prices), "--share", "0.4")
    assert code == Exit.OK
    text_ = json.loads(out)
    assert (text_["weak"], text_["strong"], text_["axis"]) == ("small", "large", "cost")
    assert text_["apgr"] > 0.6
    assert 0 < text_["cost_usd"] <= text_["models"]["large"]["cost_usd"]
    assert set(text_["calibration"]) == {"share", "threshold", "tradeoff"}


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_curve_is_drawn(files, tmp_path, capsys, ending):
    plot = tmp_path / f"curve{ending}"
    code, _, _ = run(capsys, *files, "--plot", str(plot))
    assert code == Exit.OK
    if ending == ".svg":
        assert ET.parse(plot).getroot().tag.endswith("svg")
    else:
        assert plot.read_bytes().startswith(b"\x89PNG")


def test_plot_of_an_unknown_format_is_refused_before_the_fit(files, capsys):
    code, out, err = run(capsys, *files, "--plot", "curve.txt")
    assert (code, out) == (Exit.USAGE, "")
    assert "end it in .png or .svg" in err


def test_bad_file_is_an_error_with_its_line(files, tmp_path, capsys):
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,weak_correct,strong_correct\nx,1,1\ny,2,1\n", encoding="utf-8")
    code, out, _ = run(capsys, *files[:2], "--test", str(bad), "--json")
    assert code == Exit.USAGE
    assert json.loads(out)["error"]["message"].startswith(f"{bad}:3: weak_correct: must be 0, 1 or between")


def test_test_file_of_other_models_is_an_error(files, tmp_path, capsys):
    other = write(tmp_path / "c.csv", 40, seed=1, models=("weak", "other"))
    code, _, err = run(capsys, *files[:2], "--test", str(other))
    assert code == Exit.USAGE
    assert "has no grades of strong; there are those of weak, other" in err


def test_share_without_prices_is_an_error(files, capsys):
    code, _, err = run(capsys, *files, "--share", "0.5")
    assert code == Exit.USAGE
    assert "give prices" in err


def test_prompts_in_both_files_are_remarked_on(files, capsys):
    code, out, err = run(capsys, "--train", files[1], "--test", files[1], "--json")
    assert code == Exit.OK
    assert json.loads(out)["test_rows"] == 200
    assert "200 prompts are in both files" in err


def test_benchmark_compares_with_its_peers_on_the_same_folds(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "RESAMPLES", 20)
    file = write(tmp_path / "a.csv", 150, seed=0)
    plot = tmp_path / "curves.svg"
    assert bench.main([str(file), "--seeds", "1", "--json", "--plot", str(plot)]) == 0
    assert plot.exists()
    found = json.loads(capsys.readouterr().out)["a.csv"]
    assert found["figure"] == "APGR"
    assert len(found["contestants"]["ours"]["folds"]) == 5
    assert found["contestants"]["ours"]["mean"] > 0.6
    assert found["peer"].startswith("TF-IDF")
    assert [curve[-1] for curve in found["curves"].values()] == pytest.approx([1, 1])
    low, high = found["interval"]
    assert low <= found["difference"] + 0.1
    assert high >= found["difference"] - 0.1
    assert bench.main([str(tmp_path / "none.csv")]) == 1
