"""Whether an answer is right: pure checks, and what a judge model is asked where a rule can't decide."""

from ops.evaluate.grading.answers import Check, Grade, expectation, find_number, is_right
from ops.evaluate.grading.judge import (
    JUDGE_SCHEMA,
    REFUSAL_SCHEMA,
    Judging,
    read_verdict,
    refusal_question,
    right_questions,
)
from tasks.parallel.joins.outputs import is_refusal

__all__ = [
    "Check",
    "Grade",
    "expectation",
    "find_number",
    "is_right",
    "is_refusal",
    "JUDGE_SCHEMA",
    "REFUSAL_SCHEMA",
    "Judging",
    "read_verdict",
    "refusal_question",
    "right_questions",
]
