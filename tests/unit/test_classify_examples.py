import json
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.contract.errors import ConfigError, EncoderFailed
from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.examples import ExampleClassifier
from tasks.routing.classify.minilm import MiniLM

SUPPORT = {
    "billing": [
        "Why was I charged twice this month?",
        "Please send me the invoice for March",
        "My credit card was declined when paying the bill",
        "How do I change my payment method?",
        "There is an unknown charge on my statement",
    ],
    "technical": [
        "The app crashes when I open it",
        "I can't log in, the page shows an error",
        "The server returns error 500",
        "How do I reset my password?",
        "The upload is stuck and nothing happens",
    ],
    "refund": [
        "I want my money back",
        "How long does a refund take?",
        "Please refund my last order",
        "The product arrived broken, I want to return it",
        "Cancel my order and give me a refund",
    ],
    "sales": [
        "What does the enterprise plan cost?",
        "Do you offer a discount for schools?",
        "I would like a demo of your product",
        "Which plan is right for a team of ten?",
        "Can I talk to someone about buying licences?",
    ],
}

#: Left out where the file is absent, by having no case: a checkout without the data loses these tests only.
CLINC = [path for path in [Path(__file__).parents[3] / "shared/data/intent/clinc150.json"] if path.is_file()]


@pytest.fixture(scope="module")
def support() -> ExampleClassifier:
    fitted = ExampleClassifier.fit(SUPPORT)
    assert fitted is not None
    return fitted


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("I was charged two times, send an invoice", "billing"),
        ("the app shows an error when I log in", "technical"),
        ("please give me a refund for my order", "refund"),
        ("is there a discount on the enterprise plan", "sales"),
    ],
)
def test_text_like_the_examples_takes_their_route(support, text, route):
    verdict = support.judge(text)

    assert isinstance(verdict, Verdict)
    assert verdict.route == route
    assert support.threshold <= verdict.confidence <= 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "…!?",
        "量子力学とは何ですか",
        "Wie wird das Wetter morgen in Hamburg",
        "zebra giraffe quantum volcano",
        "\x00\x01\x02\xff" * 50,
        "\ud800",
        "qwx" * 300_000,
        "refund volcano zebra quantum " + "lorem ipsum dolor sit amet " * 40_000,
    ],
)
def test_text_that_shares_almost_nothing_is_left_to_others(support, text):
    assert isinstance(support.judge(text), Abstention)


def test_fewer_than_two_routes_with_examples_are_no_classifier():
    assert ExampleClassifier.fit({}) is None
    assert ExampleClassifier.fit({"a": ["one", "two"], "b": [], "c": ["…"]}) is None


def test_fit_takes_one_example_a_route():
    fitted = ExampleClassifier.fit({"a": ["red apples"], "b": ["blue skies"]})

    assert fitted is not None
    assert isinstance(fitted.judge("something else entirely"), Abstention)


def test_fit_is_deterministic(support):
    again = ExampleClassifier.fit(SUPPORT)

    assert again is not None
    assert (again.threshold, again.held_out_accuracy) == (support.threshold, support.held_out_accuracy)
    assert again.judge("charged twice") == support.judge("charged twice")


def test_route_with_many_examples_does_not_swallow_one_with_few():
    many = {"a": [f"order number {n} is late" for n in range(60)], "b": ["what is the weather", "will it rain today"]}

    fitted = ExampleClassifier.fit(many)

    assert fitted is not None
    verdict = fitted.judge("will it rain")
    assert isinstance(verdict, Verdict)
    assert verdict.route == "b"


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=20), max_size=4), max_size=4), st.text())
def test_fit_takes_any_examples_and_any_text(examples, text):
    fitted = ExampleClassifier.fit(examples)

    if fitted is not None:
        message = fitted.judge(text)
        assert isinstance(message, Abstention) or 0 <= message.confidence <= 1


@pytest.mark.parametrize("path", CLINC)
def test_classifier_of_thirty_intents_refuses_texts_out_of_scope(path):
    # given ten examples, spread over the rows, of each of thirty intents
    data = json.loads(path.read_text())
    rows = defaultdict(list)
    for text, intent in data["train"]:
        rows[intent].append(text)
    examples = {intent: rows[intent][::10] for intent in sorted(rows)[::5]}

    # when
    fitted = ExampleClassifier.fit(examples)
    assert fitted is not None
    message = [(fitted.judge(text), intent) for text, intent in data["val"] if intent in examples]
    strangers = [fitted.judge(text) for text, _ in data["oos_val"]]

    # then
    right = np.mean([isinstance(one, Verdict) and one.route == intent for one, intent in message])
    wrong = np.mean([isinstance(one, Verdict) and one.route != intent for one, intent in message])
    refused = np.mean([isinstance(one, Abstention) for one in strangers])
    assert right >= 0.7
    assert wrong <= 0.06
    assert refused >= 0.8


class Stub:
    """An encoder of words: texts with words in common have vectors with a common part. `away` makes it fail."""

    fingerprint = "stub"

    def __init__(self):
        self.away = False
        self.asked = 0

    def prepare(self):
        """There is nothing to load."""

    def encode(self, texts):
        self.asked += 1
        if self.away:
            raise EncoderFailed("stub did not answer")
        vectors = np.zeros((len(texts), 32), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.casefold().split():
                vector[:] += np.random.default_rng(sum(map(ord, word))).normal(size=32)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def test_classifier_with_an_encoder_is_slow_and_right():
    fitted = ExampleClassifier.fit(SUPPORT, encoder=Stub())

    assert fitted is not None
    assert fitted.slow
    assert fitted.guesses(["please refund my last order"])[0].route == "refund"


def test_encoder_that_fails_makes_it_abstain_and_say_why():
    # given
    encoder = Stub()
    fitted = ExampleClassifier.fit(SUPPORT, encoder=encoder)
    assert fitted is not None

    # when
    encoder.away = True

    # then
    assert fitted.judge("refund") == Abstention("examples", "its encoder failed: stub did not answer")


def test_fit_with_a_failing_encoder_is_a_configuration_error():
    encoder = Stub()
    encoder.away = True

    with pytest.raises(
        ConfigError, match=r"classifier.encoder: stub did not answer; start its server, .* encoder: none"
    ):
        ExampleClassifier.fit(SUPPORT, encoder=encoder)


@pytest.mark.parametrize(
    "text",
    [
        "Wie wird das Wetter morgen in Hamburg",
        "Quiero pagar mi factura",
        "Je voudrais payer ma facture",
        "vorrei un rimborso per il mio ordine",
        "jag vill betala min räkning",
        "как мне сбросить пароль",
        "मेरा खाता कहाँ है",
        "パスワードを忘れました",
    ],
)
def test_classifier_abstains_from_a_language_of_no_example(support, text):
    assert isinstance(support.judge(text), Abstention)


def test_text_may_be_an_example_of_two_routes():
    assert ExampleClassifier.fit({"a": ["red", "one"], "b": ["blue", "one"]}) is not None


def test_texts_outside_are_refused_though_they_look_like_examples():
    # given strangers that have much in common with the examples
    outside = [f"{text} for my dog number {n}" for texts in SUPPORT.values() for text in texts for n in range(2)]

    without, with_them = ExampleClassifier.fit(SUPPORT), ExampleClassifier.fit(SUPPORT, outside=outside)

    assert without is not None
    assert with_them is not None
    asked = [f"{texts[0]} for my dog number 7" for texts in SUPPORT.values()]
    assert any(isinstance(without.judge(text), Verdict) for text in asked)
    assert all(isinstance(with_them.judge(text), Abstention) for text in asked)


def test_paraphrases_count_beside_their_example():
    text, paraphrase = SUPPORT["sales"][0], "Tell me the price of the largest package"
    asked = "the price of a package, please"

    without = ExampleClassifier.fit(SUPPORT)
    with_them = ExampleClassifier.fit(SUPPORT, paraphrases={text: [paraphrase], "no example": ["x"]})

    assert without is not None
    assert with_them is not None
    assert isinstance(without.judge(asked), Abstention)
    assert with_them.judge(asked).route == "sales"


def test_paraphrases_are_held_out_with_their_example():
    # given examples that have nothing in common, and paraphrases that say the same again
    alone = {route: [sha256(f"{route}{n}".encode()).hexdigest() for n in range(10)] for route in ("a", "b")}
    again = {text: [f"{text} {text}", f"please {text}"] for texts in alone.values() for text in texts}

    fitted = ExampleClassifier.fit(alone, paraphrases=again)

    # then a fit that had not seen an example had not seen its paraphrase
    assert fitted is not None
    assert fitted.held_out_accuracy < 0.9


def test_classifier_that_must_be_sure_abstains_more_often(support):
    sure = support.when_sure()

    assert sure.threshold >= support.threshold
    assert sure.judge(SUPPORT["refund"][2]).route == "refund"


@pytest.mark.parametrize("examples", [
    {"poems": ["Write a poem about spring", "A haiku, please", "Compose a sonnet for her", "I need some verses"],
     "german": ["Translate this into German", "How do you say that in German", "In German, please", "German version"]},
    {"weather": ["Will it rain?", "How warm is it today?", "Do I need a coat?", "Is there snow in the Alps?"],
     "cooking": ["How do I cook lentils?", "A recipe for pancakes", "What goes with fish?", "How long do eggs boil?"]},
])  # fmt: skip
def test_route_for_what_others_take_for_strange_gets_its_texts(examples):
    fitted = ExampleClassifier.fit(examples, encoder=MiniLM())

    assert fitted is not None
    for route, texts in examples.items():
        for text in texts:
            assert fitted.judge(f"{text} Thanks!").route == route


def test_fit_reads_the_cache(tmp_path, monkeypatch):
    # given
    folder = tmp_path / "not" / "there"
    first = ExampleClassifier.fit(SUPPORT, encoder=Stub(), cache=folder)
    monkeypatch.setattr("tasks.routing.classify.examples._fit", None)  # a call fails

    # when
    again = ExampleClassifier.fit(SUPPORT, encoder=Stub(), cache=folder)

    # then
    assert first is not None
    assert again is not None
    for text in ["please refund my order", "charged twice", "", "wo ist das und was ist es", "zebra"]:
        assert again.judge(text) == first.judge(text)
    assert again.held_out_accuracy == first.held_out_accuracy


@pytest.mark.parametrize("change", ["text", "route", "order", "outside", "encoder"])
def test_other_material_is_fitted_anew(tmp_path, change):
    # given
    ExampleClassifier.fit(SUPPORT, cache=tmp_path)
    examples = {route: list(texts) for route, texts in SUPPORT.items()}
    outside = ["nothing of the kind"] if change == "outside" else []

    # when
    if change == "text":
        examples["sales"][0] += "!"
    elif change == "route":
        examples["sale"] = examples.pop("sales")
    elif change == "order":
        examples = dict(reversed(examples.items()))
    ExampleClassifier.fit(examples, cache=tmp_path, outside=outside, encoder=Stub() if change == "encoder" else None)

    # then
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "foreign", "text"])
def test_damaged_cache_is_made_anew(tmp_path, damage):
    # given
    first = ExampleClassifier.fit(SUPPORT, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()

    # when
    if damage == "foreign":
        np.savez(path.with_suffix(""), other=np.zeros(3))
    else:
        middle = len(whole) // 2
        broken = bytes([whole[middle] ^ 255]) * 64
        path.write_bytes(
            {
                "empty": b"",
                "cut": whole[:middle],
                "flipped": whole[:middle] + broken + whole[middle + 64 :],
                "text": b"not an archive at all",
            }[damage]
        )
    again = ExampleClassifier.fit(SUPPORT, cache=tmp_path)

    # then
    assert first is not None
    assert again is not None
    assert again.judge("please refund my order") == first.judge("please refund my order")
    with np.load(path) as arrays:
        assert arrays["idf"].size


def test_folder_that_can_not_be_written_costs_nothing_but_time(tmp_path):
    file = tmp_path / "file"
    file.touch()

    assert ExampleClassifier.fit(SUPPORT, cache=file / "below") is not None


def test_routers_that_fit_at_one_moment_leave_one_whole_file(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        fitted = list(pool.map(lambda _: ExampleClassifier.fit(SUPPORT, cache=tmp_path), range(4)))

    assert len({one.judge("please refund my order") for one in fitted if one}) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def test_folder_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.routing.fitted_files.KEPT", 3)

    for n in range(5):
        ExampleClassifier.fit({"a": [f"red {n}"], "b": ["blue"]}, cache=tmp_path)

    assert len(list(tmp_path.iterdir())) == 3
