"""What a claimed part asks: its prompt, its input, its sampling, and who else may be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tasks.calling.attempt import CONTINUE, add_answer, build_request, render_prompt
from tasks.calling.retry import select_models
from tasks.contract.errors import PromptError
from tasks.contract.job import parse_job
from tasks.contract.model_client import ModelReply
from tasks.contract.result import Candidate, Decision, Usage
from tasks.ledger import Claim, Kept
from tasks.loading.load import load
from tasks.parallel.part_spec import PartSpec

YAML = """
models:
  fast: {provider: simulated, max_tokens: 7, timeout: 9}
  slow: {provider: simulated, context_window: 500}
routes:
  r: {models: [fast, slow], prompt: Of the route.}
  bare: {models: [fast]}
default_route: r
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("config")
    (folder / "prompts").mkdir()
    (folder / "prompts" / "own.md").write_text(
        "{{ title }}: {{ index }} of {{ total }}, {{ kind }} on {{ route }} for {{ metadata.who }}, {{ labels.l }}"
    )
    (folder / "pointsman.yaml").write_text(YAML)
    return load(folder / "pointsman.yaml")


def claim(job=None, *, route="r", part=None, model="fast", **more):
    candidates = (Candidate(model="fast"), Candidate(model="slow", reason="too small"))
    given = {
        "attempt": 1, "queue_wait_s": 0.0, "time_left_s": None,
        "decision": Decision(route=route, classifier="c", confidence=1, strategy="s", candidates=candidates),
    }  # fmt: skip
    job = parse_job(job or {"text": "the text"})
    return Claim(**(given | {"job": job, "part": replace(part or PartSpec(), model=model, title="T")} | more))


def asked(config, this, index=0):
    prompt = render_prompt(this, config, index)
    return build_request(this, "fast", config.models["fast"], prompt and prompt.text, index)


def messages_of(request):
    return [(message.role, message.content) for message in request.messages]


@pytest.mark.parametrize(
    ("job", "own", "expected"),
    [
        ({}, PartSpec(), "Of the route."),
        ({"prompt": "Of the job."}, PartSpec(), "Of the job."),
        ({"prompt": "Of the job."}, PartSpec(prompt="Its own."), "Its own."),
        # An empty prompt is a word, too: no prompt at all.
        ({"prompt": ""}, PartSpec(), None),
        ({"prompt": "Of the job."}, PartSpec(bare=True), None),
        ({"prompt": "Of the job."}, PartSpec(prompt="Of the join.", bare=True), "Of the join."),
    ],
)
def test_prompt_is_the_nearest_of_part_job_and_route(config, job, own, expected):
    prompt = render_prompt(claim({"text": "x", **job}, part=own), config, 0)
    assert (prompt.text if prompt is not None else None) == expected


def test_prompt_file_is_filled_in_with_the_part_s_variables(config):
    job = {
        "kind": "sections", "items": ["a", "b"], "prompt": "file:own.md", "metadata": {"who": "us"},
        "labels": {"l": "L"},
    }  # fmt: skip
    this = claim(job, part=PartSpec(text="b"), total=2)
    assert render_prompt(this, config, 1).text == "T: 2 of 2, sections on r for us, L"
    # The version depends on the template alone.
    assert render_prompt(this, config, 1).version == render_prompt(this, config, 0).version
    # Behind a plan the sections are counted from one all the same.
    assert render_prompt(claim(job, part=PartSpec(text="b"), first=1, total=2), config, 2).text.startswith("T: 2 of 2")


def test_prompt_that_lacks_a_variable_or_a_file_raises_a_prompt_error(config):
    with pytest.raises(PromptError, match="who"):
        render_prompt(claim({"text": "x", "prompt": "file:own.md"}), config, 0)
    with pytest.raises(PromptError, match=r"no prompt 'file:gone\.md'"):
        render_prompt(claim(part=PartSpec(prompt="file:gone.md")), config, 0)


def test_messages_of_a_section_a_vote_and_a_task_are_the_user_s(config):
    assert messages_of(asked(config, claim(part=PartSpec(text="a section"), route="bare"))) == [("user", "a section")]
    assert messages_of(asked(config, claim(route="bare"))) == [("user", "the text")]
    planned = claim(route="bare", part=PartSpec(task="Your part: A"))
    assert messages_of(asked(config, planned)) == [("user", "the text"), ("user", "Your part: A")]
    messages = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    assert messages_of(asked(config, claim(messages))) == [
        ("system", "Of the route."),
        ("user", "q"),
        ("assistant", "a"),
    ]


def test_votes_differ_by_their_seed_unless_they_have_one_of_their_own(config):
    vote = {"kind": "vote", "text": "x", "n": 3, "seed": 10, "temperature": 0.5}
    assert [asked(config, claim(vote), index).seed for index in range(3)] == [10, 11, 12]
    assert asked(config, claim(vote, part=PartSpec(seed=0)), 2).seed == 0
    assert asked(config, claim({"text": "x"}), 2).seed is None


def test_question_of_a_join_has_no_sampling_and_no_schema_of_the_job(config):
    schema = {"type": "object"}
    job = {"text": "x", "temperature": 0.5, "max_tokens": 3, "stop": ["."], "seed": 1, "response_schema": schema}
    own = asked(config, claim(job))
    assert (own.temperature, own.max_tokens, own.stop, own.seed, own.response_schema) == (0.5, 3, (".",), 1, schema)
    bare = asked(config, claim(job, part=PartSpec(prompt="Judge.", bare=True)))
    assert (bare.temperature, bare.max_tokens, bare.stop, bare.seed, bare.response_schema) == (
        None,
        7,
        None,
        None,
        None,
    )
    other = {"type": "array"}
    assert asked(config, claim(job, part=PartSpec(bare=True, schema=other))).response_schema == other
    assert asked(config, claim(job, part=PartSpec(schema=other))).response_schema == other


def test_timeout_ends_with_the_job_s_deadline(config):
    assert asked(config, claim()).timeout == 9
    assert asked(config, claim(time_left_s=2.5)).timeout == 2.5


def test_select_models_names_the_part_s_own_models_or_the_able_candidates(config):
    assert list(select_models(claim(), config.models, {})) == ["fast"]
    own = select_models(claim(part=PartSpec(candidates=("slow", "gone")), model="slow"), config.models, {})
    assert own == {"slow": config.models["slow"]}


def test_continued_answer_is_a_turn_of_the_model_without_its_thoughts(config):
    kept = add_answer(Kept(), ModelReply("so ", Usage(), reasoning="first thought"), most=99)
    request = asked(config, claim(route="bare", kept=kept))
    assert messages_of(request) == [("user", "the text"), ("assistant", "so "), ("user", CONTINUE)]
    more = ModelReply("far", Usage(), reasoning="second")
    assert add_answer(kept, more, most=99) == Kept("so far", "first thought\n\nsecond", 2)


def test_thoughts_are_kept_up_to_their_bound():
    for thoughts, most, expected in (("abcdef", 4, "abc…"), ("abcd", 4, "abcd"), ("abcd", 0, "")):
        assert add_answer(Kept(), ModelReply("x", Usage(), reasoning=thoughts), most=most).reasoning == expected
