import json
from itertools import pairwise

import pytest

from ops.cli import main
from ops.evaluate.classifier import cross_validate, evaluate
from ops.evaluate.labelled import Labelled, read_labelled
from tasks.contract.errors import BadInput

COLOURS = ["red", "green", "blue", "yellow", "purple", "orange"]
TRAIN = [
    *({"text": f"paint the {colour} wall please", "label": "paint"} for colour in COLOURS),
    *({"text": f"buy {colour} apples at the market", "label": "buy"} for colour in COLOURS),
    *({"text": f"play the {colour} album again", "label": "play"} for colour in COLOURS),
]
TEST = [
    {"text": "paint my wall black please", "label": "paint"},
    {"text": "buy black apples", "label": "buy"},
    {"text": "play an old album again", "label": "play"},
    {"text": "quantum volcano", "label": None},
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(train=TRAIN, test=TEST):
        for name, rows in (("train", train), ("test", test)):
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return ["eval", "classifier", "--train", "train.jsonl", "--test", "test.jsonl"]

    return write


def test_score_is_one_json_document_with_the_promised_fields(files, capsys):
    code = main([*files(), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["accuracy"] == 1
    assert found["oos_recall"] == 1
    assert (found["in_scope"], found["out_of_scope"], found["labels"]) == (3, 1, 3)
    assert found["p50_ms"] > 0
    assert found["fit_s"] > 0
    assert found["threshold"] in [point["threshold"] for point in found["curve"]]


def test_curve_falls_in_scope_and_rises_out_of_it(files, capsys):
    main([*files(), "--json"])

    curve = json.loads(capsys.readouterr().out)["curve"]
    assert curve[0] == {"threshold": 0, "accuracy": 1, "oos_recall": 0}
    assert curve[-1]["oos_recall"] == 1
    for lower, higher in pairwise(curve):
        assert lower["threshold"] < higher["threshold"]
        assert lower["accuracy"] >= higher["accuracy"]
        assert lower["oos_recall"] <= higher["oos_recall"]


def test_recall_needs_texts_out_of_scope(files, capsys):
    code = main([*files(test=TEST[:3]), "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["oos_recall"] is None
    assert {point["oos_recall"] for point in found["curve"]} == {None}


def test_people_get_a_table_and_a_curve(files, capsys):
    code = main(files())

    shown = capsys.readouterr().out
    assert code == 0
    assert "accuracy" in shown
    assert "100.0%" in shown
    assert "█" in shown


def test_texts_out_of_scope_may_stand_in_the_train_file(files, capsys):
    outside = [{"text": f"what is the {colour} weather in town", "label": None} for colour in COLOURS]

    code = main([*files(train=[*TRAIN, *outside]), "--json"])

    assert code == 0
    assert json.loads(capsys.readouterr().out)["labels"] == 3


def test_cross_validation_gives_mean_and_spread(files, capsys):
    main([*files(), "--folds", "3", "--json"])

    across = json.loads(capsys.readouterr().out)["cross_validation"]
    assert len(across["accuracy"]) == 3
    assert across["accuracy_mean"] == pytest.approx(sum(across["accuracy"]) / 3)
    assert across["accuracy_sd"] >= 0


def test_cross_validation_has_every_label_in_every_part():
    # given labels that come one after the other, of texts that are easy
    rows = [Labelled(row["text"], row["label"]) for row in TRAIN]

    assert cross_validate(rows, 3, None)["accuracy"] == [1.0, 1.0, 1.0]


def test_set_that_contradicts_itself_is_scored_all_the_same():
    rows = [Labelled(row["text"], row["label"]) for row in TRAIN]

    score = evaluate([*rows, Labelled(rows[0].text, "buy")], rows, None)

    assert 0.9 <= score.accuracy <= 1


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "train.jsonl:2 is not JSON"),
        ("[" * 100_000, "train.jsonl:2 is not JSON"),
        ("[1]", "train.jsonl:2 is JSON, but no object"),
        ('{"label": "a"}', "train.jsonl:2: text is missing"),
        ('{"text": 3, "label": "a"}', "train.jsonl:2: text is of type int"),
        ('{"text": "x"}', "train.jsonl:2: label is missing"),
        ('{"text": "x", "label": 3}', "train.jsonl:2: label is of type int"),
        ('{"text": "x", "label": ""}', "train.jsonl:2: label is empty"),
    ],
)
def test_bad_line_is_an_error_with_file_and_line(files, capsys, line, problem):
    code = main([*files(train=[TRAIN[0], line, *TRAIN]), "--json"])

    error = json.loads(capsys.readouterr().out)["error"]
    assert code == 2
    assert problem in error["message"]
    assert error["field"] == "train"
    assert '{"text": "…", "label": "…"}' in error["remedy"]


def test_file_that_is_missing_or_no_text_is_an_error(tmp_path):
    (tmp_path / "latin").write_bytes('{"text": "ü", "label": "a"}'.encode("latin-1"))

    with pytest.raises(BadInput, match="can't be read: No such file"):
        read_labelled(tmp_path / "absent", field="train")
    with pytest.raises(BadInput, match="latin:1 is not UTF-8 text; convert"):
        read_labelled(tmp_path / "latin", field="train")


@pytest.mark.parametrize("rows", [[], [TRAIN[0]], [TRAIN[0], {"text": "x", "label": None}]])
def test_train_file_needs_two_labels(files, capsys, rows):
    code = main([*files(train=rows), "--json"])

    error = json.loads(capsys.readouterr().out)["error"]
    assert code == 2
    assert "give it texts of 2 labels at least" in error["remedy"]


def test_labels_without_a_word_are_errors(files, capsys):
    code = main([*files(train=[{"text": "…", "label": "a"}, {"text": "!", "label": "b"}]), "--json"])

    assert code == 2
    assert "fewer than two labels have a text with a word" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_encoder_that_is_none_is_an_error(files, capsys):
    code = main([*files(), "--encoder", "magic", "--json"])

    assert code == 2
    assert "none, embed, embed:FOLDER, or a URL" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_line_ends_of_unicode_inside_a_text_are_no_line_ends(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "a\xe2\x80\xa8b", "label": "x"}\r\n\r\n{"text": "c", "label": "y", "more": 1}\n'
    )

    rows = read_labelled(path, field="train")

    assert rows == [Labelled("a\u2028b", "x"), Labelled("c", "y")]
