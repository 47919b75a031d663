"""`pointsman eval workflow`: what a case may say, what is right, and what the figures are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ops.evaluate.workflow import GradedCase, WorkflowCase, grade_answer, read_workflow_cases, score
from tasks.contract.errors import BadInput
from tasks.contract.result import Result
from tasks.loading.load import parse

CONFIG = parse("""\
models: {fast: {provider: simulated}}
routes: {only: {models: [fast]}}
default_route: only
workflows: {support_chat: ready}
""")
WORKFLOW = CONFIG.flows["support_chat"]


def read(folder, *lines):
    path = folder / "cases.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_workflow_cases(path, WORKFLOW)


def case(**expect):
    return {"input": {"text": "Hi"}, "expect": expect}


def expected(folder, grader, value):
    return read(folder, case(**{grader: value}))[0].expect[grader]


class TestCases:
    def test_case_has_the_number_of_its_line_as_id_unless_it_says_one(self, tmp_path):
        first, second = read(tmp_path, case(exact="a"), "", {**case(exact="b"), "id": "named"})

        assert [(one.id, one.line) for one in (first, second)] == [("1", 1), ("named", 3)]

    def test_route_may_be_named_as_the_workflow_or_as_the_configuration_does(self, tmp_path):
        assert expected(tmp_path, "route", ["billing", "support_chat.sales"]) == (
            "support_chat.billing", "support_chat.sales",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "line 1: is not JSON: "),
            ("[]", "line 1: must be a JSON object; with id, input, expect"),
            ({"input": {"text": "x"}}, "line 1.expect: is missing"),
            ({"expect": {"exact": "x"}}, "line 1.input: is missing"),
            ({**case(exact="x"), "expected": 1}, "line 1.expected: is not a field here; fields are: id, input, expect"),
            (case(), "line 1.expect: is empty"),
            (case(equal="x"), "line 1.expect.equal: is not a field here; fields are: exact, contains, regex"),
            (case(contains=[]), "line 1.expect.contains: must be a text, or a list of texts"),
            (case(contains=["a", " "]), "line 1.expect.contains: must be a text, or a list of texts"),
            (case(regex="(?=a)"), "line 1.expect.regex: is no regular expression of RE2"),
            (case(regex=["a", "("]), "line 1.expect.regex: is no regular expression of RE2"),
            (case(numeric="many"), "line 1.expect.numeric: must be a number"),
            (case(numeric={"value": 1, "off": 2}), 'line 1.expect.numeric: must be a number, or {"value"'),
            (case(json_schema={"type": "objekt"}), "line 1.expect.json_schema: "),
            (case(route="bills"), "line 1.expect.route: 'bills' is not a route of this workflow; there are: fron"),
            ({"input": {"text": "x", "model": "fast"}, "expect": {"exact": "x"}}, "line 1.input.model: is not a field"),
        ],
    )  # fmt: skip
    def test_bad_case_names_line_field_and_remedy(self, tmp_path, line, problem):
        with pytest.raises(BadInput) as caught:
            read(tmp_path, line)

        assert str(caught.value).startswith(problem)

    def test_two_cases_of_one_id_are_refused(self, tmp_path):
        with pytest.raises(BadInput, match=r"^line 2\.id: 'a' is that of line 1, too"):
            read(tmp_path, {**case(exact="x"), "id": "a"}, {**case(exact="x"), "id": "a"})

    def test_file_without_cases_is_refused(self, tmp_path):
        with pytest.raises(BadInput, match="holds no case"):
            read(tmp_path, "", " ")


class TestGrading:
    @pytest.mark.parametrize(
        ("grader", "value", "right", "wrong"),
        [
            ("exact", "flagged", "Flagged.", "not flagged"),
            ("exact", ["yes", "ja"], "Ja", "oui"),
            ("contains", ["30 days", "REFUND"], "A refund within 30\ndays.", "A refund within 30 weeks"),
            ("regex", ["(?i)refund", "[0-9]+ days"], "Refund: 30 days", "Refund: thirty days"),
            ("numeric", 42, "It is 42.", "It is 43."),
            ("numeric", {"value": 42, "tolerance": 1}, "It is 43.", "It is 44."),
            ("json_schema", {"type": "object", "required": ["a"]}, '```json\n{"a": 1}\n```', '{"b": 1}'),
            ("label", "spam", '{"label": "Spam", "why": "ham"}', '{"label": "ham", "why": "spam"}'),
            ("label", ["spam", "scam"], "Scam", "no scam"),
            ("label", "spam", '{"verdict": "spam"}', "{}"),
        ],
    )
    def test_answer_is_right_or_wrong_by_its_grader(self, tmp_path, grader, value, right, wrong):
        message = expected(tmp_path, grader, value)

        assert grade_answer(grader, message, right)
        assert not grade_answer(grader, message, wrong)

    @pytest.mark.parametrize(
        ("grades", "right"),
        [
            ({"a": True, "b": True}, True),
            ({"a": True, "b": False}, False),
            ({"a": True, "judge": None}, None),
            ({"a": False, "judge": None}, False),
        ],
    )
    def test_case_is_right_where_all_graders_say_so(self, grades, right):
        assert graded(grades).right is right


def graded(grades, *, seconds=1.0, usd=0.0, state="succeeded"):
    result = Result(id="x", state=state, kind="flow", accepted_at=10.0, ended_at=10.0 + seconds, cost_usd=usd)
    return GradedCase(WorkflowCase("1", 1, {}, {}), result, grades)


class TestScore:
    def test_shares_are_of_what_could_be_graded(self):
        found = score(
            [
                graded({"exact": True, "route": True}, seconds=1.0, usd=0.1),
                graded({"exact": False, "route": True}, seconds=2.0, usd=0.2),
                graded({"exact": True, "judge": None}, seconds=3.0, usd=0.3),
                graded({"exact": False}, seconds=4.0, state="failed"),
            ]
        )

        assert (found.cases, found.graded, found.right, found.failed) == (4, 3, 1, 1)
        assert found.graders == {"exact": (2, 4), "route": (2, 2), "judge": (0, 0)}
        assert found.share == pytest.approx(1 / 3)
        assert found.cost_usd == pytest.approx(0.6)
        assert (found.p50_s, found.mean_cost_usd) == (pytest.approx(2.5), pytest.approx(0.15))
        assert len(found.wrong) == 2

    def test_record_that_is_gone_counts_as_failed(self):
        found = score([GradedCase(WorkflowCase("1", 1, {}, {}), None, {"exact": False})])

        assert (found.failed, found.p50_s, found.share) == (1, None, 0.0)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("ops/workflows/*/cases.jsonl")), ids=str)
def test_cases_of_each_ready_workflow_can_be_read(path):
    config = parse(
        "models: {m: {provider: simulated}}\nroutes: {r: {models: [m]}}\ndefault_route: r\n"
        f"workflows: {{{path.parent.name}: ready}}\n"
    )

    assert len(read_workflow_cases(path, config.flows[path.parent.name])) >= 20
