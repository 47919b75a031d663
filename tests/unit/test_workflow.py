"""Workflows: what is written down, what each step's job is, and what the whole answers."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tasks.contract.errors import BadInput, ConfigError, JoinError
from tasks.contract.job import parse_job
from tasks.loading.load import json_schema, parse
from tasks.workflows.check_job import check_job
from tasks.workflows.steps import StepOutcome, conclude_workflow, make_step_job

CONFIG = """\
models:
  fast: {provider: simulated}
  careful: {provider: simulated}
routes:
  only: {models: [fast]}
default_route: only
"""

FLOW = """\
description: Two steps.
input: text
steps:
  - name: parts
    job: {kind: sections, split: numbered, prompt: "file:part.md", join: concatenate}
  - name: whole
    job: {prompt: "file:whole.md", temperature: 0}
"""
PROMPTS = {"part.md": "Part {{ index }}.", "whole.md": "Whole.", "de/more.md": "Mehr."}

#: Any JSON, and what is none.
VALUES = some.recursive(
    some.none() | some.floats() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["text", "title", "route"]), inner),
)
OUTPUTS = some.text() | VALUES.map(json.dumps)


def write(folder, name, text, prompts=PROMPTS, **files):
    for path, source in {**{f"prompts/{prompt}": text for prompt, text in prompts.items()}, **files}.items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_text(source)
    (folder / name / "workflow.yaml").write_text(textwrap.dedent(text))


def config_of(folder, *names, **sources):
    named = {**{name: f"./{name}" for name in names}, **sources}
    entries = "".join(f"  {name}: {source}\n" for name, source in named.items())
    return parse(f"{CONFIG}workflows:\n{entries}", source="p.yaml", folder=folder)


def one(folder, text=FLOW, name="flow", **files):
    write(folder, name, text, **files)
    return config_of(folder, name)


def problems_of(folder, *names, **sources):
    with pytest.raises(ConfigError) as caught:
        config_of(folder, *names, **sources)
    return [line.replace(f"{folder}/", "") for line in str(caught.value).splitlines()]


def flow_job(kind="flow", **fields):
    fields = fields if {"items", "messages"} & fields.keys() else {"text": "1. a\n2. b\n", **fields}
    return parse_job({"kind": kind, **fields})


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    text = """\
        description: Items.
        input: text
        steps: [{name: plan, job: {}}, {name: parts, job: {kind: sections}}]
    """
    return one(tmp_path_factory.mktemp("planned"), text).flows["flow"]


class TestLoading:
    def test_names_of_a_workflow_become_those_of_the_configuration(self, tmp_path):
        text = """\
            description: Names.
            input: [text, messages]
            default_route: right
            routes:
              left: {prompt: "file:part.md", keywords: [left]}
              right: {prompt: right or wrong, models: [fast], strategy: random}
            steps:
              - {name: report, job: {routes: [left, right]}}
              - {name: named, job: {route: left, prompt: "file:de/more.md"}}
              - {name: model, job: {model: careful}}
              - {name: by_model, job: {model: "route:left"}}
              - {name: general, job: {route: only}}
              - name: votes
                job: {kind: vote, n: 3, variety: {prompts: ["file:part.md", as it is]}, join_model: "route:left"}
              - name: each
                job:
                  kind: sections
                  split: paragraphs
                  join: synthesis
                  join_options: {prompt: "file:whole.md"}
                  each: {kind: vote, n: 3, prompt: "file:part.md"}
        """

        flow = one(tmp_path, text).flows["flow"]

        jobs = {step.name: step.job for step in flow.steps}
        assert jobs["report"] == {"routes": ["flow.right", "flow.left"]}
        assert jobs["named"] == {"route": "flow.left", "prompt": "file:flow/de/more.md"}
        assert jobs["model"] == {"model": "careful"}
        assert jobs["by_model"] == {"model": "route:flow.left"}
        assert jobs["general"] == {"route": "only"}
        assert jobs["votes"]["variety"] == {"prompts": ["file:flow/part.md", "as it is"]}
        assert (jobs["votes"]["join_model"], jobs["votes"]["route"]) == ("route:flow.left", "flow")
        assert jobs["each"]["join_options"] == {"prompt": "file:flow/whole.md"}
        assert jobs["each"]["each"] == {"kind": "vote", "n": 3, "prompt": "file:flow/part.md", "route": "flow"}
        assert {name: route.models for name, route in flow.routes.items()} == {
            "flow": ("fast", "careful"), "flow.left": ("fast", "careful"), "flow.right": ("fast",),
        }  # fmt: skip
        assert flow.routes["flow.left"].prompt == "file:flow/part.md"

    def test_routes_of_a_workflow_are_not_classified_into(self, tmp_path):
        config = one(tmp_path, FLOW + 'routes: {more: {keywords: [more], prompt: "file:part.md"}}\n')

        assert set(config.routes) == {"only"}
        assert set(config.all_routes) == {"only", "flow", "flow.more"}

    def test_routes_of_a_workflow_are_known_after_scores_were_checked(self, tmp_path):
        write(tmp_path, "flow", FLOW)
        profile = "profile: {speed: 1, accuracy: 1, creativity: 1, ethics: 1}"
        text = CONFIG.replace("simulated}", f"simulated, {profile}}}").replace("[fast]", "[fast], strategy: profile")

        config = parse(f"{text}workflows: {{flow: ./flow}}\n", folder=tmp_path)

        assert set(config.all_routes) == {"only", "flow"}

    def test_models_of_a_workflow_can_be_configured(self, tmp_path):
        write(tmp_path, "flow", FLOW)

        config = config_of(tmp_path, flow="{from: ./flow, models: [careful]}")

        assert config.candidates("flow") == ("careful",)

    def test_folder_can_be_two_workflows(self, tmp_path):
        write(tmp_path, "flow", FLOW)

        config = config_of(tmp_path, first="./flow", second="{from: ./flow, models: [careful]}")

        assert [config.flows[name].steps[0].job["prompt"] for name in ("first", "second")] == [
            "file:first/part.md", "file:second/part.md",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "problem"),
        [
            ("join: con", "joint: con", "5: steps[0].job.joint: is not a field of a job; fields are: schema_version"),
            ("kind: sections", "kind: part", "5: steps[0].job.kind: 'part' is not known; allowed: flow, sections, "),
            ("numbered", "number", "5: steps[0].job.split: "),
            ("concatenate", "merge, join_options: {by: x}", "5: steps[0].job.join_options.by: "),
            ("file:part", "file:parts", "5: steps[0].job.prompt: there is no prompt 'file:flow/parts.md'"),
            ("temperature: 0", "temperature: 9", "7: steps[1].job.temperature: "),
            ("temperature: 0", "text: x", "7: steps[1].job.text: is the workflow job's own; leave it out"),
            ("temperature: 0", "route: nix", "7: steps[1].job.route: 'nix' is not known; allowed: flow, only"),
            ("temperature: 0", "response_schema: {type: objekt}", "7: steps[1].job.response_schema: #/type breaks"),
            ("name: whole", "name: parts", "6: steps[1].name: 'parts' is the name of an earlier step"),
            ("name: whole", "name: Whole", "6: steps[1].name: "),
            (
                "name: whole",
                'name: whole\n    input: "{{ steps.whole }}"',
                "7: steps[1].input: steps.whole is not of an earlier step; these are: parts",
            ),
            (
                "name: whole",
                'name: whole\n    input: "{{ step.parts }}"',
                "7: steps[1].input: 'step' is not a variable here; there are: data, items, labels,",
            ),
            ("name: whole", 'name: whole\n    when: "data.parts ="', "7: steps[1].when: is no"),
            (
                "input: text",
                "input: items",
                "4: steps[0].input: is needed: the step takes text, and the workflow's input is items",
            ),
            ("input: text", "input: texts", "2: input[0]: "),
            ("", 'output: "{{ steps.x }}"', "8: output: steps.x is not of an earlier step; these are: parts, whole"),
            ("", "example: no.md", "8: example: there is no file no.md in the workflow's folder"),
            ("", "cases: ../../etc/passwd", "8: cases: there is no file ../../etc/passwd in the workflow's folder"),
            ("", "default_route: x", "8: default_route: 'x' is not a route of this workflow; allowed: none"),
            ("", "routes:\n  A: {}", "9: routes.A: a name is lower case letters"),
            ("", "routes:\n  a: {models: [slow]}", "9: routes.a.models[0]: 'slow' is not a model; allowed: care"),
            ("", "routes:\n  a: {strategy: best}", "9: routes.a.strategy: 'best' is not a strategy; allowed: ada"),
            ("", "routes:\n  a: {prompt: 'file:nix'}", "9: routes.a.prompt: there is no prompt 'file:flow/nix'"),
            ("", "routes:\n  a: {patterns: ['(']}", "9: routes.a.patterns[0]: "),
            (
                "",
                "routes:\n  a: {examples: [x y]}\n  b: {examples: [X Y]}",
                "10: routes.b.examples[0]: is an example of route 'a' as well",
            ),
        ],
    )
    def test_mistake_in_a_workflow_has_file_line_and_field(self, tmp_path, old, new, problem):
        write(tmp_path, "flow", FLOW.replace(old, new) if old else f"{FLOW}{new}\n")

        (line,) = problems_of(tmp_path, "flow")

        assert line.startswith(f"flow/workflow.yaml:{problem}")

    def test_problems_of_all_workflows_are_reported_at_once(self, tmp_path):
        write(tmp_path, "first", "steps: []\nsteps: []\n")
        write(tmp_path, "second", "- 1\n")

        assert problems_of(tmp_path, "first", "second") == [
            "first/workflow.yaml:1: description: is missing",
            "first/workflow.yaml:1: input: is missing",
            "first/workflow.yaml:2: steps: needs at least one entry, and at most 100",
            "first/workflow.yaml:2: steps: stands twice",
            "second/workflow.yaml:1: must be a mapping with description, input and steps",
        ]

    @pytest.mark.parametrize(
        ("name", "source", "problem"),
        [
            ("flow", "./nowhere", "p.yaml:8: workflows.flow.from: nowhere has no workflow.yaml; name ready, or a "),
            ("flow", "ready", "p.yaml:8: workflows.flow.from: ready has no workflow 'flow'; there are: code_review, "),
            ("Flow", "./flow", "p.yaml:8: workflows.Flow: a workflow's name is lower case letters"),
            ("vote", "./flow", "p.yaml:8: workflows.vote: a workflow's name is lower case letters"),
            ("only", "./flow", "p.yaml:8: workflows.only: there is a route 'only', too; call one of them otherwise"),
            ("flow", "{from: ./flow, models: [slow]}", "p.yaml:8: workflows.flow.models[0]: 'slow' is not a model"),
            ("flow", "{form: ./flow}", "p.yaml:8: workflows.flow.form: is not a field here; allowed: from"),
            ("flow", "1", "p.yaml:8: workflows.flow: must be a mapping with some of from"),
        ],
    )  # fmt: skip
    def test_mistake_in_the_source_of_a_workflow_is_reported(self, tmp_path, name, source, problem):
        write(tmp_path, "flow", FLOW)

        lines = problems_of(tmp_path, **{name: source})

        assert any(line.startswith(problem) for line in lines), lines

    def test_circular_workflows_are_refused(self, tmp_path):
        text = "description: x\ninput: text\nsteps: [{name: a, job: {kind: KIND}}]\n"
        write(tmp_path, "first", text.replace("KIND", "second"))
        write(tmp_path, "second", text.replace("KIND", "sections, split: lines, each: {kind: first}"))

        lines = problems_of(tmp_path, "first", "second")

        assert [re.sub(r"steps\S+", "…", line) for line in lines] == [
            "first/workflow.yaml:3: … 'second' leads back to this workflow: it would never end",
            "second/workflow.yaml:3: … 'first' leads back to this workflow: it would never end",
        ]

    def test_prompts_folder_can_t_have_the_name_of_a_workflow(self, tmp_path):
        (tmp_path / "prompts" / "flow").mkdir(parents=True)
        (tmp_path / "prompts" / "flow" / "part.md").write_text("Another.")
        write(tmp_path, "flow", FLOW)

        assert problems_of(tmp_path, "flow") == [
            "p.yaml:8: workflows.flow: prompts/flow has prompts under this name; rename one"
        ]

    def test_json_schema_knows_workflows(self):
        base = {"models": {"m": {"provider": "simulated"}}, "routes": {"r": {"models": ["m"]}}, "default_route": "r"}
        for good in ("ready", {"from": "ready", "models": ["m"]}):
            jsonschema.validate({**base, "workflows": {"flow": good}}, json_schema())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**base, "workflows": {"flow": {"form": "ready"}}}, json_schema())


class TestSteps:
    def test_step_gets_the_output_of_the_step_before(self, tmp_path):
        flow = one(tmp_path).flows["flow"]
        job = flow_job(metadata={"a": 1}, labels={"b": "c"}, priority="high")
        own = {"metadata": {"a": 1}, "labels": {"b": "c"}, "priority": "high", "route": "flow"}

        first = make_step_job(flow, 0, job, [])
        second = make_step_job(flow, 1, job, [StepOutcome("parts", "succeeded", "A\n\nB")])

        assert first == {
            **own, "kind": "sections", "split": "numbered", "prompt": "file:flow/part.md", "join": "concatenate",
            "text": "1. a\n2. b\n",
        }  # fmt: skip
        assert second == {**own, "prompt": "file:flow/whole.md", "temperature": 0, "text": "A\n\nB"}

    def test_job_of_every_step_is_accepted(self, tmp_path):
        config = one(tmp_path)
        flow, job = config.flows["flow"], flow_job()
        done = [StepOutcome("parts", "succeeded", "A")]

        for index in range(2):
            fields = make_step_job(flow, index, job, done[:index])
            check_job(parse_job(dict(fields)), config)

    def test_template_of_a_step_reads_outputs_as_text_and_as_json(self, tmp_path):
        text = """\
            description: Templates.
            input: text
            steps:
              - {name: found, job: {}}
              - name: report
                when: data.found.risks
                input: "{{ metadata.party }}: {{ steps.found|length }} {{ data.found.risks[0].why }} {{ text }}"
                job: {}
            output: "{{ steps.report or 'nothing' }} ({{ data.found.risks|length }})"
        """
        flow, job = one(tmp_path, text).flows["flow"], flow_job(text="T", metadata={"party": "P"})
        some = [StepOutcome("found", "succeeded", '```json\n{"risks": [{"why": "W"}]}\n```')]
        none = [StepOutcome("found", "succeeded", '{"risks": []}')]

        assert make_step_job(flow, 1, job, some)["text"] == "P: 37 W T"
        assert make_step_job(flow, 1, job, none) is None
        assert conclude_workflow(flow, job, [*some, StepOutcome("report", "succeeded", "O")]).output == "O (1)"
        skipped = conclude_workflow(flow, job, [*none, StepOutcome("report", "skipped")])
        assert skipped.output == "nothing (0)"
        assert skipped.details == {
            "steps": [{"name": "found", "state": "succeeded"}, {"name": "report", "state": "skipped"}],
            "truncated": [],
        }
        cut = conclude_workflow(flow, job, [replace(some[0], truncated=True), StepOutcome("report", "succeeded", "O")])
        assert (cut.truncated, cut.details["truncated"]) == (True, [{"index": 0, "title": "found"}])

    def test_skipped_and_failed_steps_have_no_output_for_the_next(self, tmp_path):
        text = """\
            description: Optional.
            input: text
            steps:
              - {name: a, job: {}}
              - {name: b, optional: true, job: {}}
              - {name: c, job: {}}
        """
        flow, job = one(tmp_path, text).flows["flow"], flow_job()
        done = [StepOutcome("a", "succeeded", "A"), StepOutcome("b", "failed", error="no")]

        assert flow.steps[1].optional
        assert make_step_job(flow, 2, job, done)["text"] == "A"
        assert make_step_job(flow, 1, job, [StepOutcome("a", "skipped")])["text"] == "1. a\n2. b\n"
        assert conclude_workflow(flow, job, [*done, StepOutcome("c", "skipped")]).output == "A"
        with pytest.raises(JoinError, match="no step of the workflow 'flow' gave an output"):
            conclude_workflow(
                flow, job, [StepOutcome("a", "skipped"), StepOutcome("b", "skipped"), StepOutcome("c", "skipped")]
            )

    def test_json_array_becomes_items_with_their_titles(self, tmp_path):
        text = """\
            description: Items.
            input: text
            steps:
              - {name: plan, job: {}}
              - {name: parts, input: "{{ data.plan.parts }}", job: {kind: sections}}
        """
        flow, job = one(tmp_path, text).flows["flow"], flow_job()
        plan = '{"parts": ["one", {"title": "Two", "brief": "b"}, {"text": "three", "title": "Three"}]}'

        fields = make_step_job(flow, 1, job, [StepOutcome("plan", "succeeded", plan)])

        assert fields["items"] == [
            "one",
            {"text": '{"title": "Two", "brief": "b"}', "title": "Two"},
            {"text": "three", "title": "Three"},
        ]
        parse_job(dict(fields))

    @pytest.mark.parametrize(
        ("output", "problem"),
        [
            ("no JSON", "input: 'plan' is undefined; no JSON: the output of plan"),
            ('{"part": []}', "input: 'parts' is undefined"),
            ('{"parts": []}', "it takes items, and its input is no JSON array"),
            ('{"parts": "x"}', "it takes items, and its input is no JSON array"),
            ('{"parts": ""}', "its input is empty"),
        ],
    )
    def test_invalid_input_of_a_step_names_no_text(self, tmp_path, output, problem):
        text = """\
            description: Items.
            input: text
            steps:
              - {name: plan, job: {}}
              - {name: parts, input: "{{ data.plan.parts }}", job: {kind: sections}}
        """
        flow = one(tmp_path, text).flows["flow"]

        with pytest.raises(JoinError) as caught:
            make_step_job(flow, 1, flow_job(), [StepOutcome("plan", "succeeded", output)])

        assert str(caught.value) == problem

    @given(output=OUTPUTS)
    def test_output_of_any_form_becomes_a_job_or_a_join_error(self, planned, output):
        try:
            fields = make_step_job(planned, 1, flow_job(), [StepOutcome("plan", "succeeded", output)])
            parse_job(dict(fields))
        except (JoinError, BadInput):
            return
        assert fields["items"]

    def test_messages_reach_a_step_that_takes_them(self, tmp_path):
        config = one(tmp_path, "description: x\ninput: messages\nsteps: [{name: a, job: {}}]\n")
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]

        assert make_step_job(config.flows["flow"], 0, flow_job(messages=messages), [])["messages"] == messages
        assert make_step_job(config.flows["flow"], 0, flow_job(text="Hi"), [])["text"] == "Hi"

    def test_workflow_can_be_a_step_of_another(self, tmp_path):
        write(tmp_path, "inner", "description: x\ninput: items\nsteps: [{name: a, job: {kind: sections}}]\n")
        outer = 'description: x\ninput: text\nsteps: [{name: a, input: "{{ [text, text] }}", job: {kind: inner}}]\n'
        write(tmp_path, "outer", outer)
        config = config_of(tmp_path, "outer", "inner")

        fields = make_step_job(config.flows["outer"], 0, flow_job("outer", text="T"), [])

        assert (fields["kind"], fields["items"], "route" in fields) == ("inner", ["T", "T"], False)
        check_job(parse_job(dict(fields)), config)


class TestChecking:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"split": "numbered"}, "split: is what the steps of the workflow 'flow' say themselves; leave it out"),
            ({"join": "merge"}, "join: is what the steps"),
            ({"model": "fast"}, "model: is what the steps"),
            ({"prompt": "x"}, "prompt: is what the steps"),
            ({"routes": ["only"]}, "routes: is what the steps"),
            ({"policy": "partial"}, "policy: is what the steps"),
            ({"temperature": 0}, "temperature: is what the steps"),
            ({"items": ["x"]}, "items: is not what the workflow 'flow' takes; send text"),
            ({"messages": [{"role": "user", "content": "x"}]}, "messages: is not what the workflow 'flow' takes"),
        ],
    )
    def test_job_can_t_set_the_fields_of_its_steps(self, tmp_path, fields, problem):
        config = one(tmp_path)

        with pytest.raises(BadInput) as caught:
            check_job(flow_job(**fields), config)

        assert str(caught.value).startswith(problem)

    def test_job_can_set_its_own_fields(self, tmp_path):
        config = one(tmp_path)

        check_job(
            flow_job(metadata={"a": 1}, labels={"b": "c"}, priority="low", deadline=5, budget_usd=1, key="k"), config
        )

    def test_text_counts_as_a_conversation_of_one_message(self, tmp_path):
        config = one(tmp_path, "description: x\ninput: messages\nsteps: [{name: a, job: {}}]\n")

        check_job(flow_job(text="Hi"), config)

    def test_metadata_that_rules_of_a_step_can_t_compare_are_refused(self, tmp_path):
        text = """\
            description: x
            input: text
            routes: {a: {when: {grade: {min: 1}}}, b: {}}
            steps: [{name: a, job: {routes: [b, a]}}]
        """
        config = one(tmp_path, text)

        check_job(flow_job(metadata={"grade": 3}), config)
        with pytest.raises(BadInput, match=r"^metadata\.grade"):
            check_job(flow_job(metadata={"grade": [3]}), config)

    def test_unknown_kind_names_the_workflows(self, tmp_path):
        with pytest.raises(BadInput, match="allowed: flow, sections, single, vote"):
            check_job(flow_job("flaw"), one(tmp_path))
