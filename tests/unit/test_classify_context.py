"""Contextual rules: which hold, which decides, and the messages about rules and metadata that can't be compared."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.config import Config
from tasks.contract.errors import BadInput, ConfigError
from tasks.contract.job import parse_job
from tasks.loading.load import json_schema, parse
from tasks.routing.classify.condition import read_condition
from tasks.routing.classify.context import ContextRules, read_rule
from tasks.routing.classify.decision import Abstention, Facts, Verdict
from tasks.workflows.check_job import check_job

#: A Saturday evening in UTC, Sunday morning in Tokyo.
SATURDAY = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)

METADATA = st.dictionaries(
    st.sampled_from(["topic", "score", "vip", "length", "other"]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=4,
    ),
)


def rules(*pairs, timezone=UTC):
    return ContextRules([read_rule(route, when) for route, when in pairs], timezone=timezone)


def judged(context, metadata=None, text="a text", at=SATURDAY):
    return context.judge(text, Facts(metadata or {}, at))


def config_of(**routes):
    return Config.model_validate(
        {
            "models": {"fast": {"provider": "simulated"}},
            "routes": {name: {"models": ["fast"], **route} for name, route in routes.items()},
            "default_route": next(iter(routes)),
        }
    )


@pytest.mark.parametrize(
    ("when", "metadata", "holds"),
    [
        ({"topic": "billing"}, {"topic": "billing"}, True),
        ({"topic": "billing"}, {"topic": "BILLING"}, True),
        ({"topic": "Straße"}, {"topic": "STRASSE"}, True),
        ({"topic": "caf\u00e9"}, {"topic": "cafe\u0301"}, True),
        ({"topic": "billing"}, {"topic": "sales"}, False),
        ({"topic": "billing"}, {}, False),
        ({"topic": "billing"}, {"topic": None}, False),
        ({"language": ["de", "fr"]}, {"language": "fr"}, True),
        ({"language": ["de", "fr"]}, {"language": "en"}, False),
        ({"language": ["de", "fr"]}, {"language": ["de"]}, False),
        ({"topic": "billing", "language": "de"}, {"topic": "billing", "language": "de"}, True),
        ({"topic": "billing", "language": "de"}, {"topic": "billing"}, False),
        ({"score": {"min": 0.5}}, {"score": 0.5}, True),
        ({"score": {"min": 0.5}}, {"score": 0.4}, False),
        ({"score": {"min": 1, "max": 2}}, {"score": 2}, True),
        ({"score": {"max": 2}}, {"score": 2.1}, False),
        ({"score": {"min": 0}}, {"score": "1"}, False),
        ({"score": 1}, {"score": 1.0}, True),
        ({"vip": True}, {"vip": True}, True),
        ({"vip": True}, {"vip": 1}, False),
        ({"level": 1}, {"level": True}, False),
    ],
)
def test_condition_compares_like_with_like_whatever_the_case(when, metadata, holds):
    text_ = judged(rules(("a", when)), metadata)

    assert isinstance(text_, Verdict) is holds


@pytest.mark.parametrize(
    ("when", "at", "holds"),
    [
        ({"hour": 23}, SATURDAY, True),
        ({"hour": "22-6"}, SATURDAY, True),
        ({"hour": "22-6"}, SATURDAY.replace(hour=5), True),
        ({"hour": "22-6"}, SATURDAY.replace(hour=6), False),
        ({"hour": "9-17"}, SATURDAY.replace(hour=16), True),
        ({"hour": "9-17"}, SATURDAY.replace(hour=17), False),
        ({"hour": "18-24"}, SATURDAY, True),
        ({"hour": ["3-5", 23]}, SATURDAY, True),
        ({"hour": {"min": 20}}, SATURDAY, True),
        ({"hour": {"min": 1, "max": 5}}, SATURDAY, False),
        ({"weekday": "sat"}, SATURDAY, True),
        ({"weekday": ["Saturday", "sunday"]}, SATURDAY, True),
        ({"weekday": "mon-fri"}, SATURDAY, False),
        ({"weekday": "fri-mon"}, SATURDAY, True),
        ({"weekday": "sat", "hour": "9-17"}, SATURDAY, False),
    ],
)
def test_hours_and_weekdays_are_those_of_now(when, at, holds):
    assert isinstance(judged(rules(("a", when)), at=at), Verdict) is holds


def test_facts_are_in_the_time_zone_of_the_configuration():
    tokyo = rules(("a", {"weekday": "sun", "hour": 8}), timezone=ZoneInfo("Asia/Tokyo"))

    assert isinstance(judged(tokyo), Verdict)


def test_length_is_that_of_the_text_in_tokens():
    context = rules(("long", {"length": {"min": 1000}}), ("short", {"length": {"max": 10}}))

    assert judged(context, text="word " * 2000).route == "long"
    assert judged(context, text="a word").route == "short"
    assert isinstance(judged(context, text="word " * 100), Abstention)


def test_metadata_named_like_a_derived_fact_needs_its_full_name():
    derived, sent = rules(("a", {"hour": 23})), rules(("a", {"metadata.hour": 23}))

    assert isinstance(judged(derived, {"hour": 1}), Verdict)
    assert isinstance(judged(sent, {"hour": 1}), Abstention)
    assert isinstance(judged(sent, {"hour": 23}, at=SATURDAY.replace(hour=1)), Verdict)
    assert isinstance(judged(rules(("a", {"metadata.metadata.hour": 23})), {"metadata.hour": 23}), Verdict)
    assert isinstance(judged(rules(("a", {"metadata.topic": "x"})), {"topic": "x"}), Verdict)


def test_rule_with_the_most_conditions_decides_and_says_which_it_is():
    context = rules(
        ("general", {"topic": "billing"}),
        ("gold", {"topic": "billing", "tier": ["gold", "platinum"]}),
        ("german", {"language": "de"}),
    )

    text_ = judged(context, {"topic": "billing", "tier": "gold", "language": "de"})

    assert text_ == Verdict("gold", "context", 1.0, "tier is gold or platinum, topic is billing")


def test_rules_of_two_routes_with_equally_many_conditions_abstain():
    context = rules(("b", {"topic": "billing"}), ("a", {"language": "de"}))

    text_ = judged(context, {"topic": "billing", "language": "de"})

    assert text_ == Abstention("context", "rules of a and b hold, 1 condition each")


def test_several_rules_of_one_route_are_alternatives():
    context = rules(("a", {"topic": "billing"}), ("a", {"language": "de"}))

    assert judged(context, {"topic": "billing", "language": "de"}).route == "a"
    assert judged(context, {"language": "de"}).route == "a"


def test_context_rules_abstain_where_none_holds():
    assert judged(rules(("a", {"topic": "x"}))) == Abstention("context", "no rule holds")


@given(METADATA, st.text(max_size=20))
def test_routing_takes_any_metadata_and_any_text(metadata, text):
    context = rules(
        ("a", {"topic": "x", "score": {"min": 1}}),
        ("b", {"vip": True, "length": {"max": 5}}),
        ("c", {"metadata.length": [1, 2]}),
    )

    text_ = context.judge(text, Facts(metadata, SATURDAY))

    assert isinstance(text_, Abstention | Verdict)


@given(METADATA)
def test_check_refuses_exactly_what_rules_cannot_compare(metadata):
    context = rules(("a", {"topic": "x", "score": {"min": 1}, "vip": True, "metadata.length": [1, "long"]}))
    allowed = {"topic": (str,), "score": (int, float), "vip": (bool,), "length": (int, float, str)}
    wrong = {
        f"metadata.{name}"
        for name, kinds in allowed.items()
        if (value := metadata.get(name)) is not None
        and (type(value) not in kinds or (isinstance(value, float) and not math.isfinite(value)))
    }

    refused = set()
    try:
        context.check(metadata)
    except BadInput as error:
        refused = {error.field}

    assert refused <= wrong
    assert bool(refused) is bool(wrong)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"topic": ["billing"]}, "metadata.topic: is a list; rules of a, b compare it with a text: send one"),
        ({"topic": {"is": "billing"}}, "metadata.topic: is a mapping; rules of a, b compare it with a text: send one"),
        ({"topic": 3}, "metadata.topic: is a number; rules of a, b compare it with a text: send one"),
        ({"score": "high"}, "metadata.score: is a text; rules of a compare it with a number: send one"),
        ({"vip": "yes"}, "metadata.vip: is a text; rules of b compare it with true or false: send one"),
    ],
)
def test_metadata_of_the_wrong_type_is_refused_when_it_is_submitted(metadata, problem):
    config = config_of(
        a={"when": [{"topic": "x"}, {"score": {"min": 1}}]}, b={"when": {"topic": ["y", "z"], "vip": True}}
    )

    with pytest.raises(BadInput) as caught:
        check_job(parse_job({"text": "x", "metadata": metadata}), config)

    assert str(caught.value) == problem
    # What no rule will read is the producer's own business.
    check_job(parse_job({"text": "x", "route": "a", "metadata": metadata}), config)
    check_job(parse_job({"text": "x", "metadata": {"unknown": metadata, "topic": None}}), config)


def test_reason_names_metadata_of_a_type_that_a_newer_rule_cannot_compare():
    text_ = judged(rules(("a", {"topic": "x"})), {"topic": ["x"]})

    assert text_ == Abstention("context", "no rule holds; metadata.topic is a list")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("", "x", "is no name"),
        ("metadata.", "x", "is no name"),
        ("topic", [], "is an empty list"),
        ("topic", None, "can't be compared; use a text, a number, true or false, a list of them, or {min, max}"),
        ("topic", [["x"]], "can't be compared"),
        ("topic", ["de", False], "true or false stands among other values; YAML reads yes, no, on and off so"),
        ("topic", float("nan"), "can't be compared"),
        ("score", {}, "takes min and max, at least one of them"),
        ("score", {"least": 1}, "takes min and max"),
        ("score", {"min": "1"}, "min must be a number"),
        ("score", {"min": 2, "max": 1}, "min is greater than max, so nothing fulfils it; swap them"),
        ("length", "long", "is a number of tokens"),
        ("hour", 24, "is a number from 0 to 23 or a span"),
        ("hour", True, "is a number from 0 to 23 or a span"),
        ("hour", 1.5, "is a number from 0 to 23 or a span"),
        ("hour", "8", "is a number from 0 to 23 or a span"),
        ("hour", "8-8", "is a number from 0 to 23 or a span"),
        ("hour", "8-25", "is a number from 0 to 23 or a span"),
        ("hour", {"min": 22, "max": 26}, "is from 0 to 23; over midnight write"),
        ("weekday", "sunnyday", "is one of mon, tue, wed"),
        ("weekday", "mon-wed-fri", "is one of mon, tue, wed"),
        ("weekday", 1, "is one of mon, tue, wed"),
        ("weekday", {"min": 1}, "is no number; write a day"),
    ],
)
def test_condition_that_can_t_be_read_says_what_may_stand_there(name, value, problem):
    with pytest.raises(ValueError, match=r".") as caught:
        read_condition(name, value)

    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"topic": "x"}, {"topic": ["X"]}),
        ({"topic": "x", "hour": "22-0"}, {"hour": [22, 23], "metadata.topic": "x"}),
        ({"weekday": "sat-sun"}, {"weekday": ["sun", "Saturday"]}),
        ({"score": {"min": 1}}, {"score": {"min": 1.0}}),
    ],
)
def test_rules_that_say_the_same_are_equal_however_they_are_written(one, other):
    assert read_rule("a", one).conditions == read_rule("a", other).conditions


FILE = """\
models:
  fast: {provider: simulated}
routes:
  a:
    models: [fast]
    when: {topic: billing}
  b:
    models: [fast]
    when:
      - {language: de}
      - {topic: [Billing]}
default_route: a
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            FILE,
            "p.yaml:11: routes.b.when[1]: contradicts a rule of route 'a': the conditions are the same; leave one out,",
        ),
        (FILE.replace("[Billing]", "{min: x}"), "p.yaml:11: routes.b.when[1].topic: min must be a number"),
        (
            FILE.replace("{language: de}", "{}"),
            "p.yaml:10: routes.b.when[0]: has no condition, so it would always hold",
        ),
        (FILE.replace("{topic: billing}", "billing"), "p.yaml:6: routes.a.when: must be a list"),
        (FILE.replace("{topic: billing}", "[billing]"), "p.yaml:6: routes.a.when[0]: must be a mapping"),
        (FILE.replace("{topic: billing}", "{1: x}"), "p.yaml:6: routes.a.when[0][1]: input should be a valid string"),
    ],
)
def test_configuration_reports_line_and_field_of_a_rule_that_is_wrong(text, message):
    with pytest.raises(ConfigError) as caught:
        parse(text, source="p.yaml")

    assert str(caught.value).splitlines()[0].startswith(message)


def test_json_schema_knows_rules_as_a_mapping_and_as_a_list():
    good = FILE.replace("[Billing]", "[billing, sales]")

    parse(good)
    jsonschema.validate(yaml.safe_load(good), json_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(FILE.replace("{topic: billing}", "{topic: {least: 1}}")), json_schema())
