"""Joins of JSON: the merge and the table."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import JoinError
from tasks.parallel.joins import JOINS, Missing, Piece, Work
from tests.joining import work

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2)
OBJECTS = st.dictionaries(
    st.sampled_from("xyz"),
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner), max_leaves=5
    ),
)


def merged(*values, missing=(), **options):
    """The joined value of a merge, and its details."""
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    joined = JOINS.named("merge")(work(*texts, options=JOINS.options("merge", options), missing=missing))
    return json.loads(joined.output), joined.details


def tabled(*values, missing=(), named=(), **options):
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    given_work = work(*texts, options=JOINS.options("table", options), missing=missing)
    if named:
        parts = [Piece(index, title, texts[index]) for index, title in enumerate(named)]
        given_work = Work(parts, missing, len(parts) + len(missing), given_work.options)
    return JOINS.named("table")(given_work)


# -- merge ---------------------------------------------------------------------------------------------------


def test_merge_unites_objects_by_key_at_any_depth_and_appends_arrays():
    value, details = merged(
        {"risks": [1], "summary": {"first": "a"}},
        {"risks": [2, 3], "summary": {"second": "b"}, "extra": True},
    )

    assert value == {"risks": [1, 2, 3], "summary": {"first": "a", "second": "b"}, "extra": True}
    assert details == {
        "sections": 2,
        "missing": [],
        "truncated": [],
        "unreadable": [],
        "conflicts": [],
        "confidence": 1.0,
    }


@pytest.mark.parametrize(
    ("rule", "value"), [("list", {"a": {"b": [1, 2]}}), ("first", {"a": {"b": 1}}), ("last", {"a": {"b": 2}})]
)
def test_merge_applies_the_conflict_rule_and_lists_the_places(rule, value):
    found, details = merged({"a": {"b": 1}}, {"a": {"b": 2}}, {"a": {"b": 2}}, conflicts=rule)

    assert found == value
    assert details["conflicts"] == ["a.b"]


def test_merge_with_rule_error_names_the_place_but_no_sentence_of_a_model():
    with pytest.raises(JoinError, match=r"part 2 .* at a\.…, and conflicts is error"):
        merged({"a": {"my secret sentence": 1}}, {"a": {"my secret sentence": 2}}, conflicts="error")


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (None, 1, 1),
        (1, None, 1),
        (1, 1.0, 1),
        (1, True, [1, True]),
        ([1], 2, [1, 2]),
        (1, [2], [1, 2]),
        ({"a": 1}, 2, [{"a": 1}, 2]),
        ([1], {"a": 1}, [1, {"a": 1}]),
        ("x", "y", ["x", "y"]),
    ],
)
def test_merge_of_values_of_different_kinds_loses_nothing(first, second, value):
    found, _ = merged({"k": first}, {"k": second})

    assert found["k"] == value
    assert merged(json.dumps(first), json.dumps(second))[0] == value


def test_merge_adds_a_third_value_to_two_different_ones():
    assert merged({"k": 1}, {"k": 2}, {"k": 3}, {"k": [4]})[0] == {"k": [1, 2, 3, 4]}


def test_merge_unites_elements_with_the_same_key():
    value, details = merged(
        [{"id": 1, "tags": ["a"]}, {"id": 2, "note": "x"}, {"no": "id"}],
        [{"id": 2, "note": "y"}, {"id": 1.0, "tags": ["b"], "new": 0}, {"id": None}],
        key="id",
    )

    assert value == [
        {"id": 1, "tags": ["a", "b"], "new": 0},
        {"id": 2, "note": ["x", "y"]},
        {"no": "id"},
        {"id": None},
    ]
    assert details["conflicts"] == ["[].note"]


def test_merge_can_leave_out_repeated_elements():
    assert merged([1, {"a": 1, "b": 2}], [{"b": 2, "a": 1}, 1.0, True, "1"], unique=True)[0] == [
        1, {"a": 1, "b": 2}, True, "1",
    ]  # fmt: skip


def test_merge_sorts_arrays_by_a_field_and_puts_elements_without_it_last():
    first = {"risks": [{"name": "a", "severity": 2}, {"name": "b"}]}
    second = {"risks": [{"name": "c", "severity": 5}, {"name": "d", "severity": 2}]}

    value, _ = merged(first, second, sort={"field": "severity", "descending": True})

    assert [risk["name"] for risk in value["risks"]] == ["c", "a", "d", "b"]


def test_merge_sorts_words_in_the_given_order():
    risks = [{"s": "low"}, {"s": "HIGH "}, {"s": "strange"}, {"s": "medium"}]

    value, _ = merged(risks, sort={"field": "s", "order": ["high", "medium", "low"]})

    assert [risk["s"] for risk in value] == ["HIGH ", "medium", "low", "strange"]


def test_merge_checks_the_value_with_a_schema_and_names_the_place():
    schema = {"properties": {"risks": {"type": "array", "items": {"type": "string"}}}}

    assert merged({"risks": ["a"]}, {"risks": ["b"]}, result_schema=schema)[0] == {"risks": ["a", "b"]}
    with pytest.raises(JoinError, match="result_schema at properties/risks/items/type") as caught:
        merged({"risks": ["a"]}, {"risks": [77]}, result_schema=schema)
    assert "77" not in str(caught.value)


@pytest.mark.parametrize(
    "output",
    [
        '```json\n{"a": 1}\n```',
        'Here it is:\n\n```\n{"a": 1}\n```\nAnything else?',
        '```\nno\n```\n ```json\n{"a": 1}```\n```',
    ],
)
def test_merge_finds_json_within_a_fence(output):
    assert merged(output, {"b": 2})[0]["b"] == 2


@pytest.mark.parametrize(
    "output", ["Sorry.", "", '{"a": 1} and {"b": [', '{"a": 1e999}', '{"a": NaN}', "[" * 100 + "]" * 100, "```\n```"]
)
def test_merge_fails_on_an_output_without_json_or_skips_and_lists_it(output):
    with pytest.raises(JoinError, match=r"1 of 2 outputs are no JSON: those of parts 2; .* unreadable"):
        merged({"a": 1}, output)

    value, details = merged({"a": 1}, output, unreadable="skip")
    assert value == {"a": 1}
    assert details["unreadable"] == [1]
    assert details["confidence"] == 0.5


def test_merge_of_unreadable_outputs_alone_raises():
    with pytest.raises(JoinError, match=r"2 of 2 outputs are no JSON: those of parts 1, 2$"):
        merged("a", "b", unreadable="skip")


def test_merge_can_list_missing_sections_in_the_merged_object():
    value, _ = merged({"a": 1}, "no", missing=[Missing(2, "Fees", "timed out")], unreadable="skip", missing_key="gone")

    assert value["gone"] == [
        {"section": 2, "title": "", "reason": "its output is no JSON"},
        {"section": 3, "title": "Fees", "reason": "timed out"},
    ]


@pytest.mark.parametrize("output", ["```json\n" + "\n" * 20_000 + "x", "```\n```json" + "\n" * 20_000 + "x"])
def test_merge_of_an_output_of_blanks_takes_no_time(output):
    with pytest.raises(JoinError, match="1 of 1 outputs are no JSON"):
        merged(output)


def test_merge_makes_half_a_surrogate_pair_storable():
    joined = JOINS.named("merge")(work('{"a": "\\ud800"}'))

    assert json.loads(joined.output.encode()) == {"a": "\ufffd"}


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_merge_keeps_every_single_value_of_every_output(objects):
    value, _ = merged(*objects)

    assert {leaf for each in objects for leaf in leaves(each)} <= leaves(value)


@given(OBJECTS)
def test_merge_of_an_object_with_itself_has_the_same_keys(value):
    assert merged(value, value)[0].keys() == value.keys()


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_merge_one_by_one_or_all_at_once_gives_the_same_keys(objects):
    once, _ = merged(*objects)
    rest, _ = merged(*objects[:-1]) if len(objects) > 1 else ({}, {})
    assert merged(rest, objects[-1])[0].keys() == once.keys()


def leaves(value):
    """The single values of a JSON value, null aside, each as JSON."""
    if isinstance(value, dict):
        return set().union(*map(leaves, value.values()))
    if isinstance(value, list):
        return set().union(*map(leaves, value))
    return set() if value is None else {json.dumps(value)}


def test_merge_handles_ten_thousand_outputs():
    value, details = merged(*({"risks": [{"part": number}], "kind": "clause"} for number in range(10_000)))

    assert [risk["part"] for risk in value["risks"]] == list(range(10_000))
    assert value["kind"] == "clause"
    assert details["sections"] == 10_000


# -- table ---------------------------------------------------------------------------------------------------


def test_table_makes_rows_of_objects_with_columns_in_order_of_appearance():
    joined = tabled({"name": "a", "n": 1}, [{"n": 2, "ok": True}, {"name": None}], "7", named=["One", "Two", ""])

    assert joined.output.splitlines() == [
        "| section | name | n | ok | value |",
        "| --- | --- | --- | --- | --- |",
        "| One | a | 1 |  |  |",
        "| Two |  | 2 | true |  |",
        "| Two |  |  |  |  |",
        "|  |  |  |  | 7 |",
    ]
    assert joined.details["rows"] == 4
    assert joined.details["columns"] == ["section", "name", "n", "ok", "value"]


def test_table_columns_can_be_chosen_and_titles_left_out():
    joined = tabled({"a": 1, "b": 2}, {"b": 3}, named=["One", "Two"], titles=None, columns=["b", "c"])

    assert joined.output.splitlines() == ["| b | c |", "| --- | --- |", "| 2 |  |", "| 3 |  |"]


def test_table_cell_of_markdown_stays_in_its_cell():
    joined = tabled({"a|b": "x | y\\| z\r\nsecond <script>"})

    assert joined.output.splitlines() == [
        "| a\\|b |",
        "| --- |",
        "| x \\| y\\\\\\| z<br>second \\<script> |",
    ]


def test_table_of_markdown_notes_missing_sections():
    joined = tabled({"a": 1}, missing=[Missing(1, "Fees", "timed out")])

    assert joined.output.endswith("|\n\n[section 2 “Fees” is missing: timed out]")
    assert joined.details["confidence"] == 0.5


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("  @SUM(A1)", "'  @SUM(A1)"),
        ("-cmd", "'-cmd"),
        ("＝1", "'＝1"),
        ("\t=1", "'\t=1"),
        ("-5.5", "-5.5"),
        ("+1e3", "+1e3"),
        ("-3%", "-3%"),
        ("a=b", "a=b"),
    ],
)
def test_table_as_safe_csv_holds_no_formula(text, cell):
    assert rows_of(tabled({"c": text}, format="csv").output) == [["c"], [cell]]
    assert rows_of(tabled({"c": text}, format="csv", safe=False).output) == [["c"], [text]]
    assert rows_of(tabled({text: 1}, format="csv").output)[0] == [cell]


@given(st.lists(st.dictionaries(st.text(min_size=1, max_size=4), st.text(max_size=9)), min_size=1, max_size=4))
def test_table_as_csv_reads_back_as_it_was(objects):
    joined = tabled(*objects, format="csv", safe=False)
    columns = joined.details["columns"]
    if not columns:
        assert joined.output == ""
        return

    assert rows_of(joined.output) == [columns, *([row.get(name, "") for name in columns] for row in objects)]


@given(st.lists(OBJECTS, min_size=1, max_size=5))
def test_table_as_json_lines_holds_every_row_with_every_column(objects):
    joined = tabled(*objects, format="jsonl")

    for line, row in zip(joined.output.split("\n"), objects, strict=True):
        assert json.loads(line) == dict.fromkeys(joined.details["columns"]) | row


def rows_of(text):
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(("form", "output"), [("markdown", "(no rows)"), ("csv", ""), ("jsonl", "")])
def test_table_without_rows_says_so(form, output):
    assert tabled([], [], format=form).output == output


def test_table_of_outputs_with_different_keys_is_limited():
    with pytest.raises(JoinError, match=r"1,200 columns .* option columns"):
        tabled(*({f"key{number}": number} for number in range(1200)))

    assert tabled(*({f"key{number}": number} for number in range(1200)), columns=["key7"]).details["rows"] == 1200


def test_table_column_of_the_data_overrides_that_of_the_titles():
    joined = tabled({"section": "own"}, named=["One"])

    assert joined.output.splitlines()[-1] == "| own |"
