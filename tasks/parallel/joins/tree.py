"""Condense many texts into one by a model with a limited window: groups, then groups of groups, then the last question.

Pure and deterministic: each call plans the earlier rounds again and fills in their answers. It ends for any number of
parts and any answers, since every round unites at least two of its texts, except in the first round: a part that
fills more than half of the window is condensed by itself there. So n parts take at most about n / (fan_in - 1)
questions if `fan_in` parts fit into the window, and at most 2 n if only two do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from pydantic import JsonValue

from tasks.contract.errors import JoinError
from tasks.parallel.joins.question_material import PER_BLOCK, count_tokens, mark_blocks, room_for_material, truncate
from tasks.parallel.joins.work import JoinAnswer, JoinQuestion, JoinQuestions, Piece, Work

#: Share of the room that the task may take; a longer task is the document that the parts were cut from.
TASK = 1 / 4
#: Characters of a title that a question shows.
TITLE = 100
#: Words for each token, and the lowest word limit of a condensed text.
WORDS, FEWEST_WORDS = 0.6, 50
#: Tokens of the sentence with the word limit.
SENTENCE = 16


@dataclass(frozen=True, slots=True)
class TreePlan:
    """The form of the questions. `name` is the title of the last one."""

    name: str
    prompt: str
    #: The prompt of the questions before the last.
    reduce_prompt: str
    #: Most texts of an earlier question, and of the last.
    fan_in: int
    most: int
    #: Whether the parts of a question that failed are left out.
    partial: bool = False
    schema: Mapping[str, JsonValue] | None = None
    reduce_schema: Mapping[str, JsonValue] | None = None


@dataclass(slots=True)
class Tree:
    """The result. `cut` are the indices of shortened parts, `lost` those of parts whose question failed."""

    output: str = ""
    questions: int = 0
    rounds: int = 0
    cut: list[int] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    #: Shortened answers of earlier rounds.
    cut_answers: int = 0


@dataclass(frozen=True, slots=True)
class _Node:
    """A part, or the answer that stands for several. `parts` are indices."""

    text: str
    head: str
    kind: str
    parts: tuple[int, ...]
    tokens: int


def grow(work: Work, plan: TreePlan) -> Tree | JoinQuestions:
    """Return the output, or the questions of the next round.

    Raises:
        JoinError: if there is no part, if a necessary question failed, or if the answers of a round do not match its
            questions.
    """
    work.require_pieces("parts")
    tree = Tree()
    room = (
        min(room_for_material(work.window, plan.prompt), room_for_material(work.window, plan.reduce_prompt)) - SENTENCE
    )
    task = work.question if count_tokens(work.question) <= room * TASK else ""
    room -= count_tokens(task) + PER_BLOCK if task else 0
    fan_in = min(plan.fan_in, plan.most)
    words = max(int((room / fan_in - PER_BLOCK) * WORDS), FEWEST_WORDS)
    nodes = [_make_leaf(piece, room, tree) for piece in work.pieces]
    for level in count():
        last = len(nodes) <= plan.most and sum(node.tokens for node in nodes) <= room
        groups = [nodes] if last else _make_groups(nodes, fan_in, room)
        asked = [group for group in groups if last or len(group) > 1 or group[0].tokens > room // 2]
        tree.questions += len(asked)
        tree.rounds = level + 1
        if level >= len(work.rounds):
            return JoinQuestions(tuple(_make_question(group, plan, task, words, last=last) for group in asked))
        answers = _read_answers(asked, work.round_answers(level, len(asked)), plan, tree, last=last)
        if last:
            tree.output = answers[0]
            return tree
        nodes = _next_nodes(groups, asked, answers, room, tree)
    raise AssertionError  # pragma: no cover - the count has no end


def _make_leaf(piece: Piece, room: int, tree: Tree) -> _Node:
    title = " ".join(piece.title.split())[:TITLE]
    head = f"[{piece.index + 1}] {title}".rstrip()
    around = count_tokens(head) + PER_BLOCK
    tokens = count_tokens(piece.output) + around
    if tokens <= room:
        return _Node(piece.output, head, "part", (piece.index,), tokens)
    tree.cut.append(piece.index)
    return _Node(truncate(piece.output, room - around), head, "part", (piece.index,), room)


def _make_groups(nodes: Sequence[_Node], fan_in: int, room: int) -> list[list[_Node]]:
    """Group neighbours that fit into one question, in even groups: 21 parts are 11 and 10, not 20 and 1."""
    most = -(-len(nodes) // -(-len(nodes) // fan_in))
    groups: list[list[_Node]] = []
    tokens = 0
    for node in nodes:
        if not groups or len(groups[-1]) == most or tokens + node.tokens > room:
            groups.append([])
            tokens = 0
        groups[-1].append(node)
        tokens += node.tokens
    return groups


def _make_question(group: Sequence[_Node], plan: TreePlan, task: str, words: int, *, last: bool) -> JoinQuestion:
    blocks = [("task", task)] if task else []
    blocks += [(node.kind, f"{node.head}\n{node.text}") for node in group]
    text = mark_blocks(blocks)
    if last:
        return JoinQuestion(text, plan.prompt, plan.name, plan.schema)
    title = f"parts {group[0].parts[0] + 1} to {group[-1].parts[-1] + 1}"
    return JoinQuestion(f"{text}\n\nWrite at most {words} words.", plan.reduce_prompt, title, plan.reduce_schema)


def _read_answers(
    asked: Sequence[Sequence[_Node]], answers: Sequence[JoinAnswer], plan: TreePlan, tree: Tree, *, last: bool
) -> list[str]:
    """Return the outputs, "" for a failed question whose parts may be lost."""
    outputs = [(answer.output or "").strip() and (answer.output or "") for answer in answers]
    failed = [place for place, output in enumerate(outputs) if not output]
    if failed and (last or not plan.partial or len(failed) == len(asked)):
        reason = answers[failed[0]].error or "its answer is blank"
        raise JoinError(f"{len(failed):,} of {len(asked):,} questions of the {plan.name} failed; the first: {reason}")
    for place in failed:
        tree.lost.extend(_part_indices(asked[place]))
    return outputs


def _next_nodes(
    groups: Sequence[list[_Node]], asked: Sequence[list[_Node]], answers: Sequence[str], room: int, tree: Tree
) -> list[_Node]:
    """Return the texts of the next round: the answer for each asked group, and the texts of the other groups."""
    nodes: list[_Node] = []
    outcome = iter(answers)
    waiting = {id(group) for group in asked}
    for group in groups:
        if id(group) not in waiting:
            nodes.extend(group)
        elif answer := next(outcome):
            nodes.append(_condense(_part_indices(group), answer, room, tree))
    return nodes


def _condense(parts: tuple[int, ...], answer: str, room: int, tree: Tree) -> _Node:
    """Limit an answer to half of the room: so two always fit together, and the rounds come to an end."""
    head = f"summary of parts {parts[0] + 1} to {parts[-1] + 1}"
    around = count_tokens(head) + PER_BLOCK
    tokens = count_tokens(answer) + around
    if tokens <= room // 2:
        return _Node(answer, head, "summary", parts, tokens)
    tree.cut_answers += 1
    return _Node(truncate(answer, room // 2 - around), head, "summary", parts, room // 2)


def _part_indices(group: Iterable[_Node]) -> tuple[int, ...]:
    return tuple(index for node in group for index in node.parts)
