import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.routing.classify.language import Languages

ENGLISH = ["Why was I charged twice?", "How do I reset my password?", "I want my money back", "Where is the invoice?"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Wie wird das Wetter morgen in Hamburg", "German"),
        ("Quiero pagar mi factura", "Spanish"),
        ("Je voudrais payer ma facture", "French"),
        ("vorrei un rimborso per il mio ordine", "Italian"),
        ("jag vill betala min räkning", "Swedish"),
        ("как мне сбросить пароль", "Cyrillic letters"),
        ("मेरा खाता कहाँ है", "Devanagari letters"),
        ("パスワードを忘れました", "Chinese or Japanese"),
        ("量子力学とは何ですか", "Chinese or Japanese"),
    ],
)
def test_a_language_that_no_example_has_is_named(text, language):
    assert Languages.of(ENGLISH).foreign(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "refund",
        "",
        "…!?",
        "12345",
        "how do i say 'donde esta la biblioteca' in spanish",
        "what does je ne sais quoi mean",
        "where can i buy Пельмени",
        "\x00\x01\ud800",
    ],
)
def test_a_text_in_the_examples_language_is_not_foreign_whatever_it_quotes(text):
    assert Languages.of(ENGLISH).foreign(text) == ""


def test_a_language_with_a_tenth_of_the_function_words_is_one_of_the_examples():
    # given examples in two languages
    languages = Languages.of([*ENGLISH, "Warum wurde ich zweimal belastet, und wann kommt das Geld?"])

    # then
    assert languages.foreign("Ich habe mein Passwort vergessen, was ist zu tun") == ""
    assert languages.foreign("no puedo pagar la factura que me han enviado por correo") == "Spanish"


def test_examples_without_running_text_forbid_no_language():
    assert Languages.of(["refund invoice", "password login"]).foreign("wo ist die rechnung für den monat") == ""


@given(st.lists(st.text(max_size=60), max_size=5), st.text(max_size=300))
def test_any_text_is_judged(examples, text):
    assert isinstance(Languages.of(examples).foreign(text), str)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_an_example_itself_is_never_of_a_foreign_script(examples):
    languages = Languages.of(examples)

    assert not any(languages.foreign(text).endswith("letters") for text in examples)
