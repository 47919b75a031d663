"""The cascade that a configuration makes, and its findings about unused material."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from ops.cli.cmd_doctor import check_config
from tasks.contract.errors import ConfigError
from tasks.loading.check_config import describe_examples, find_unused
from tasks.loading.load import parse
from tasks.routing.classify.build import build_cascade
from tasks.routing.classify.decision import Abstention, Facts, Verdict
from tasks.routing.classify.examples import ExampleClassifier, LateClassifier
from tasks.routing.classify.llm import ModelRequired
from tasks.routing.classify.paraphrases import paraphrases_key, read_paraphrases

FILE = """\
models: {fast: {provider: simulated}}
routes:
  billing:
    models: [fast]
    when: {topic: money}
    keywords: [invoice]
    examples: ["Why was I charged twice?", My card was declined, Send me the bill]
  repair:
    models: [fast]
    patterns: ["err(or)? ?\\\\d+"]
    when: {hour: "22-6", topic: money}
    examples: [The app crashes at start, I can't log in, The screen stays black]
  general: {models: [fast]}
default_route: general
classifier: {}
"""
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NIGHT = NOON.replace(hour=23)


def file_with(classifier):
    return FILE.replace("classifier: {}", f"classifier: {classifier}")


@pytest.mark.parametrize(
    ("text", "facts", "route", "classifier"),
    [
        ("an invoice", Facts({"topic": "money"}, NOON), "billing", "context"),
        ("an invoice", Facts({"topic": "money"}, NIGHT), "repair", "context"),
        ("an invoice with error 17", Facts({"topic": "x"}, NOON), "billing", "examples"),
        ("an invoice", Facts({"topic": "x"}, NOON), "billing", "rules"),
        ("ERROR 17", Facts({}, NOON), "repair", "rules"),
        ("quantum volcano", Facts({}, NOON), "general", "default"),
    ],
)
def test_context_decides_before_rules_and_the_default_route_takes_the_rest(text, facts, route, classifier):
    text_ = build_cascade(parse(FILE)).classify(text, facts)

    assert (text_.route, text_.classifier) == (route, classifier)


def test_verdict_names_the_classifiers_that_abstained_before():
    text_ = build_cascade(parse(FILE)).classify("an invoice", Facts({"topic": "x"}, NOON))

    assert text_.reason == "keyword 'invoice'; context abstained (no rule holds)"


def test_order_of_the_configuration_is_kept():
    cascade = build_cascade(parse(file_with("{order: [rules, context]}")))

    assert [classifier.name for classifier in cascade.classifiers] == ["rules", "context"]
    assert cascade.classify("an invoice", Facts({"topic": "money"}, NIGHT)).classifier == "rules"


def test_thresholds_are_those_of_the_configuration():
    cascade = build_cascade(parse(file_with("{thresholds: {rules: 0.7}}")))

    text_ = cascade.classify("an invoice", Facts({}, NOON))

    assert "rules said 'billing' with confidence 0.67, below 0.70" in text_.reason
    assert cascade.classify("an invoice", Facts({"topic": "money"}, NOON)).classifier == "context"


def test_hours_are_those_of_the_configured_time_zone():
    cascade = build_cascade(parse(file_with("{timezone: Asia/Tokyo}")))

    # 21:00 in Tokyo, then 1:00.
    assert cascade.classify("x", Facts({"topic": "money"}, NOON)).route == "billing"
    assert cascade.classify("x", Facts({"topic": "money"}, NOON.replace(hour=16))).route == "repair"


def test_model_is_asked_only_where_no_classifier_decides():
    cascade = build_cascade(parse(file_with("{llm: {model: fast, min_confidence: 0.9}}")))

    referred = asyncio.run(cascade.decide("quantum volcano", Facts({}, NOON)))

    assert isinstance(referred, ModelRequired)
    assert referred.asker.model == "fast"
    assert referred.reason.startswith(
        "context abstained (no rule holds); rules abstained (no keyword or pattern found)"
    )
    assert isinstance(asyncio.run(cascade.decide("an invoice", Facts({}, NOON))), Verdict)
    unsure = Verdict("repair", "llm", 0.8, "so it says")
    assert (
        "llm said 'repair' with confidence 0.80, below 0.90" in asyncio.run(cascade.decide("q", answer=unsure)).reason
    )


def test_cascade_without_material_takes_the_default_route():
    text = "models: {m: {provider: simulated}}\nroutes: {a: {models: [m]}}\ndefault_route: a"

    assert build_cascade(parse(text)).classify("x").reason == "default route: no classifier is configured"


def test_examples_of_one_route_teach_nothing_and_give_a_remark(tmp_path):
    text = FILE.replace("    examples: [The app crashes at start, I can't log in, The screen stays black]\n", "")
    config = parse(text)
    path = tmp_path / "p.yaml"
    path.write_text(text)

    assert [classifier.name for classifier in build_cascade(config).classifiers] == ["context", "rules"]
    (message,) = find_unused(config)
    assert message.startswith("only route 'billing' has examples")
    _, findings = check_config(path)
    assert [(finding.level, finding.text) for finding in findings[1:]] == [("warn", message)]


def test_material_that_the_order_leaves_out_gives_a_remark():
    config = parse(file_with("{order: [examples]}"))

    assert find_unused(config) == [
        "classifier.order leaves out context: when of billing, repair are not used",
        "classifier.order leaves out rules: keywords and patterns of billing, repair are not used",
    ]
    assert {classifier.name for classifier in build_cascade(config).classifiers} == {"examples"}
    assert find_unused(parse(FILE)) == []


def test_example_that_stands_under_two_routes_is_refused_with_its_line():
    text = FILE.replace("I can't log in", '"why was  I CHARGED twice?"')

    with pytest.raises(ConfigError) as caught:
        parse(text, source="p.yaml")

    assert str(caught.value) == (
        "p.yaml:12: routes.repair.examples[1]: is an example of route 'billing' as well, "
        "which contradicts this one; leave one out"
    )


@pytest.mark.parametrize(
    "text",
    ["", " ", "\x00" * 5000, "\ud800", "🙂🙂", "完全に関係のない文章です", "x " * 500_000, "\u202eabc\u0301\u0327"],
)
def test_cascade_takes_any_text_and_routes_none_by_chance(text):
    text_ = build_cascade(parse(FILE)).classify(text, Facts({}, NOON))

    assert (text_.route, text_.classifier) == ("general", "default")


def test_encoder_is_loaded_when_the_first_text_needs_it():
    # given
    cascade = build_cascade(parse(FILE))
    words, late = cascade.classifiers[-2:]

    # then a text of which words are sure asks words alone
    assert isinstance(words, ExampleClassifier)
    assert isinstance(late, LateClassifier)
    assert not words.slow
    assert late.slow
    assert isinstance(words.judge("Why was I charged twice?"), Verdict)
    assert "_fitted" not in vars(late)
    # and another one the encoder, too
    assert isinstance(words.judge("You debited my account two times"), Abstention)
    assert cascade.classify("You debited my account two times").route == "billing"
    assert "_fitted" in vars(late)


def test_cascade_without_the_encoder_asks_words_alone(monkeypatch):
    monkeypatch.setattr("tasks.routing.classify.minilm.IMPORTED", ("not_installed",))

    cascade = build_cascade(parse(FILE))

    assert [classifier.name for classifier in cascade.classifiers] == ["context", "rules", "examples"]
    assert cascade.classify("Why was I charged twice?").route == "billing"


def test_encoder_that_is_damaged_leaves_the_choice_to_words(monkeypatch):
    # given an installation whose files have another content
    monkeypatch.setattr("tasks.routing.classify.encoder._packaged", lambda _: Damaged())
    cascade = build_cascade(parse(FILE))

    verdict = cascade.classify("Was my card charged twice?", Facts({}, NOON))

    assert (verdict.route, verdict.classifier) == ("billing", "examples")
    assert cascade.classify("quantum volcano", Facts({}, NOON)).route == "general"


class Damaged:
    fingerprint = "damaged"

    def encode(self, _):
        raise ConfigError("classifier.encoder: model.onnx has another content than expected")


def test_finding_says_how_examples_are_read_and_what_was_paraphrased(tmp_path):
    assert describe_examples(parse(file_with("{encoder: none}"))) == ["classifier of examples: encoder none"]
    # given
    config = parse(file_with("{augment: {model: fast, paraphrases: 2}}"), folder=tmp_path)
    settings = config.classifier.augment
    kept = {paraphrases_key(settings, "Send me the bill"): ["the bill, please", "I need my bill"], "old": ["gone"]}
    (tmp_path / "paraphrases.json").write_text(json.dumps(kept))

    assert read_paraphrases(config) == {"Send me the bill": ("the bill, please", "I need my bill")}
    assert describe_examples(config)[1:] == [
        "augment: 2 paraphrases of 1 examples; 5 examples have none, run `pointsman config augment`",
        "  'Send me the bill': the bill, please; I need my bill",
    ]
    # and another number, or model, is another question
    other = parse(file_with("{augment: {model: fast, paraphrases: 3}}"), folder=tmp_path)
    assert read_paraphrases(other) == {}


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}', '{"a": [1]}', "\udcff"])
def test_damaged_file_of_paraphrases_is_refused_with_the_remedy(tmp_path, content):
    config = parse(file_with("{augment: {model: fast}}"), folder=tmp_path)
    (tmp_path / "paraphrases.json").write_bytes(content.encode("utf-8", "surrogateescape"))

    with pytest.raises(ConfigError, match=r"classifier.augment.file: .*paraphrases.json can't be read; delete it"):
        build_cascade(config)


def test_keywords_of_a_route_follow_its_language_unless_exact():
    german = FILE.replace("keywords: [invoice]", "keywords: [Rechnung]\n    language: de")
    exact = german.replace("language: de", "exact: true")

    assert build_cascade(parse(german)).classify("Zwei Rechnungen", Facts({}, NOON)).classifier == "rules"
    assert build_cascade(parse(exact)).classify("Zwei Rechnungen", Facts({}, NOON)).classifier != "rules"
