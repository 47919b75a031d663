"""Whether an answer is right: pure checks, and what a judge model is asked where only a reader can tell."""

from tasks.grading.answers import Check, Grade, expectation, find_number, is_right
from tasks.grading.judge import JUDGE_SCHEMA, REFUSAL_SCHEMA, Judging, read_verdict, refusal_question, right_questions
from tasks.grading.refusal import is_refusal

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
