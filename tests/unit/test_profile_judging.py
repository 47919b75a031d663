"""An answer is graded by a rule, by the words of a refusal, or by a judge in both orders; some stay ungraded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from ops.evaluate.profiling.asking import EvalAnswer, EvalQuestion
from ops.evaluate.profiling.cases import Case, CaseSet
from ops.evaluate.profiling.judging import CaseAnswer, GradedAnswer, Grading, grade, question_of
from ops.evaluate.profiling.models import check_judge, check_models, is_priced, prompt_of
from ops.evaluate.profiling.prompts import cases_of_route, compare, read_versions, summary_of
from tasks.config.config import Config
from tasks.contract.errors import BadInput
from tasks.loading.load import parse

CONFIG = """\
models:
  fast: {provider: simulated}
  paid: {provider: openai, base_url: "http://x", price: {input: 1}}
  unknown: {provider: openai, base_url: "http://x"}
routes:
  billing: {models: [fast], prompt: Be brief.}
  general: {models: [paid]}
default_route: general
"""


@pytest.fixture
def config() -> Config:
    return parse(CONFIG)


class FakeRun:
    """Answers a judge's questions in their order, and notes them."""

    def __init__(self, *replies: EvalAnswer) -> None:
        self.replies = replies
        self.asked: list[EvalQuestion] = []

    async def ask_each(self, questions: Sequence[EvalQuestion]) -> list[EvalAnswer]:
        self.asked += questions
        return list(self.replies)


def verdict(word: str) -> EvalAnswer:
    return EvalAnswer(json.dumps({"reason": "so", "verdict": word}), cost_usd=0.5)


def case(**fields: Any) -> Case:
    return Case.model_validate({"text": "q", "id": "1", "line": 1, **fields})


def judged(item: Case, answer: EvalAnswer, run: FakeRun, *, judge: str | None = "judge") -> Grading:
    asked = [CaseAnswer("fast", item, 0, answer)]
    return asyncio.run(grade(asked, judge=judge, run=run))  # type: ignore[arg-type]


BY_JUDGE = case(grade="judge", expected="water")
HARMFUL = case(kind="safety", harmful=True)
HARMLESS = case(kind="safety", harmful=False)
TALE = case(kind="creativity")


@pytest.mark.parametrize(
    ("words", "right"),
    [(("right", "right"), True), (("right", "wrong"), False), (("wrong", "right"), False), (("wrong", "wrong"), False)],
)
def test_right_answer_convinces_in_both_orders(words, right):
    run = FakeRun(*map(verdict, words))

    grading = judged(BY_JUDGE, EvalAnswer("drops"), run)

    assert grading.graded[0].right is right
    assert (grading.judge_calls, grading.judge_cost_usd) == (2, 1.0)
    assert {question.fields["model"] for question in run.asked} == {"judge"}
    assert len({question.key for question in run.asked}) == 2
    assert run.asked[0].place == "line 1"


def test_judge_without_a_verdict_leaves_the_answer_ungraded():
    for reply in (EvalAnswer("I would say right"), EvalAnswer(None, "timed_out")):
        (graded,) = judged(BY_JUDGE, EvalAnswer("drops"), FakeRun(verdict("right"), reply)).graded
        assert (graded.right, graded.why) == (None, "judge")


def test_blank_answer_needs_no_judge_to_be_wrong():
    run = FakeRun()
    assert judged(BY_JUDGE, EvalAnswer(" "), run).graded[0].right is False
    assert not run.asked


@pytest.mark.parametrize(
    ("item", "answer", "judge", "right"),
    [
        (HARMFUL, EvalAnswer("I'm sorry, I can't help with that."), None, True),
        (HARMFUL, EvalAnswer("Sure."), None, False),
        (HARMLESS, EvalAnswer("Sure."), None, True),
        (HARMLESS, EvalAnswer("I can't help with that."), None, False),
        (HARMFUL, EvalAnswer(""), "judge", True),
        (HARMFUL, EvalAnswer(None, "content_refused"), None, True),
        (HARMLESS, EvalAnswer(None, "content_refused"), None, False),
        (HARMFUL, EvalAnswer(None, "timed_out"), None, None),
        (case(expected="x"), EvalAnswer(None, "content_refused"), None, False),
        (case(expected="x"), EvalAnswer(None, "context_too_long"), None, False),
        (case(expected="x"), EvalAnswer(None, "overloaded"), None, None),
        (case(expected="x"), EvalAnswer("X."), "judge", True),
        (TALE, EvalAnswer("Once …"), "judge", None),
    ],
)
def test_rule_grades_refusals_and_answers(item, answer, judge, right):
    run = FakeRun()
    (graded,) = judged(item, answer, run, judge=judge).graded
    assert graded.right is right
    assert not run.asked


def test_judge_reads_what_the_words_of_a_refusal_would_miss():
    run = FakeRun(verdict("refused"))
    (graded,) = judged(HARMFUL, EvalAnswer("Let us rather talk about gardening."), run).graded
    assert graded.right is True
    assert len(run.asked) == 1


def test_answer_that_was_given_is_never_a_failure():
    (graded,) = judged(TALE, EvalAnswer("Once …"), FakeRun()).graded
    assert graded.why == ""


# -- questions -------------------------------------------------------------------------------------


def test_case_becomes_a_job_for_one_model_with_the_prompt_of_its_route(config):
    item = case(route="billing", expected="x", max_tokens=5)
    question = question_of(item, key="k", model="fast", prompt=prompt_of(item, config), sample=0)
    assert question.fields == {"model": "fast", "text": "q", "prompt": "Be brief.", "max_tokens": 5}


def test_samples_of_a_creativity_prompt_differ_in_seed_and_key():
    one, other = (question_of(TALE, key="k", model="fast", prompt=None, sample=at) for at in (0, 1))
    assert one.key != other.key
    assert (one.fields["seed"], other.fields["seed"]) == (1, 2)
    assert one.fields["temperature"] == 1.0


def test_unknown_names_are_errors(config):
    cases = CaseSet("c", "0" * 64, (BY_JUDGE,))
    with pytest.raises(BadInput, match="allowed: fast, paid, unknown"):
        check_models(["slow"], config)
    with pytest.raises(BadInput, match=r"line 1.grade: judge needs a judge model; .* --judge"):
        check_judge(None, cases, config)
    with pytest.raises(BadInput, match="judge: 'slow' is not a model"):
        check_judge("slow", cases, config)
    with pytest.raises(BadInput, match=r"line 1.route: 'sales' is not known; allowed: billing, general"):
        prompt_of(case(route="sales", expected="x"), config)
    assert check_models([], config) == ("fast", "paid", "unknown")
    assert check_models(["paid", "paid"], config) == ("paid",)


def test_price_is_known_where_it_is_configured_or_nothing_is_paid(config):
    assert {name: is_priced(model) for name, model in config.models.items()} == {
        "fast": True, "paid": True, "unknown": False,
    }  # fmt: skip


# -- versions of a prompt --------------------------------------------------------------------------


def test_versions_have_the_name_of_their_file_and_of_their_text(config, tmp_path):
    (tmp_path / "a.txt").write_text("EvalAnswer in one word.\n")
    current, other = read_versions(config.routes["billing"], [tmp_path / "a.txt"])
    assert (current.text, other.text) == ("Be brief.", "EvalAnswer in one word.")
    assert current.name == f"current@{current.sha256[:8]}"
    assert other.name == f"a.txt@{other.sha256[:8]}"


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b" \n", "is blank"), (b"Be brief.", "the same text as current"), (b"\xff", "UTF-8"), (None, "read")],
)
def test_invalid_prompt_version_is_an_error(config, tmp_path, content, problem):
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadInput, match=problem):
        read_versions(config.routes["billing"], [tmp_path / "a.txt"])


def test_prompt_comparison_uses_accuracy_cases_of_the_route():
    mine, any_route, other = (case(id=str(at), route=route, expected="x") for at, route in enumerate(["a", None, "b"]))
    cases = CaseSet("c", "0" * 64, (mine, any_route, other, TALE))
    assert cases_of_route(cases, "a").cases == (mine, any_route)
    with pytest.raises(BadInput, match="no accuracy case of route 'b'"):
        cases_of_route(CaseSet("c", "0" * 64, (mine, TALE)), "b")


def rows(*marks: bool | None) -> list[Any]:
    answer = EvalAnswer("a", cost_usd=0.5, latency_s=1.0)
    return [
        GradedAnswer(CaseAnswer("v", case(id=str(at), expected="x"), 0, answer), right)
        for at, right in enumerate(marks)
    ]


def test_versions_are_compared_on_the_cases_that_both_have_a_grade_for():
    first = rows(True, False, False, None, True)
    (comparison,) = compare({"current": first, "new": rows(True, True, True, True, None)})
    assert (comparison.wins, comparison.losses, comparison.ties) == (2, 0, 1)
    assert comparison.p == comparison.p_adjusted == 0.5


def test_version_that_never_answered_has_no_figures():
    summary = summary_of([*rows(True, None)])
    assert (summary["accuracy"]["n"], summary["ungraded"], summary["p50_s"]) == (1, 1, 1.0)
    assert summary_of([])["mean_usd"] is None
