import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.routes import LANGUAGES
from tasks.routing.classify.decision import Abstention, Verdict
from tasks.routing.classify.rules import Rules

RULES = Rules(
    {
        "billing": ["invoice", "credit card", "straße"],
        "refund": ["refund", "money back", "refund policy", "退款"],
        "dev": ["c++", "401(k)", "api"],
    }
)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("Where is my INVOICE?", "billing"),
        ("my credit\n  card, and the invoice; refund", "billing"),
        ("I want my Money Back!", "refund"),
        ("wie heißt die STRASSE", "billing"),
        ("我要退款", "refund"),
        ("is c++ faster", "dev"),
        ("about the 401(k).", "dev"),
    ],
)
def test_route_with_the_most_keywords_wins(text, route):
    verdict = RULES.judge(text)

    assert isinstance(verdict, Verdict)
    assert verdict.route == route
    assert verdict.classifier == "rules"


@pytest.mark.parametrize("text", ["", "invoicex", "reinvoice", "rapid", "nothing here", "\x00\xff" * 9])
def test_keywords_match_whole_words_alone(text):
    assert isinstance(RULES.judge(text), Abstention)


def test_keyword_that_stands_twice_counts_once():
    once, thrice = RULES.judge("refund"), RULES.judge("refund refund refund")

    assert isinstance(once, Verdict)
    assert once == thrice
    assert once.confidence == pytest.approx(2 / 3)


def test_longer_of_two_keywords_is_meant():
    rules = Rules({"sales": ["order"], "refund": ["cancel order", "order back"]})

    verdict = rules.judge("cancel order")

    assert isinstance(verdict, Verdict)
    assert verdict.route == "refund"


def test_tie_abstains_and_names_both():
    message = RULES.judge("the invoice and the api")

    assert isinstance(message, Abstention)
    assert message.reason == "tie between billing and dev, 1 keyword each"


def test_others_that_match_lower_the_confidence():
    alone, contested = RULES.judge("invoice credit card"), RULES.judge("invoice credit card refund")

    assert isinstance(alone, Verdict)
    assert isinstance(contested, Verdict)
    assert alone.confidence == pytest.approx(3 / 4)
    assert contested.confidence == pytest.approx(3 / 5)


def test_rules_without_keywords_abstain():
    assert isinstance(Rules({}).judge("x"), Abstention)
    assert isinstance(Rules({"a": ["", "  "]}).judge("x"), Abstention)


@given(keyword=st.text(alphabet=".*+?()[]{}|^$\\ab é", min_size=1).filter(str.strip))
def test_keyword_finds_itself(keyword):
    rules = Rules({"a": [keyword]})

    assert isinstance(rules.judge(f"so, {keyword} !"), Verdict)


@given(st.text())
def test_missing_text_is_an_error(text):
    RULES.judge(text)


def test_thousand_keywords_and_a_megabyte_take_one_pass():
    rules = Rules({f"r{i}": [f"word{i}{j} x" for j in range(100)] for i in range(10)})

    assert isinstance(rules.judge("word " * 200_000 + "word77 x"), Verdict)


def test_keywords_that_begin_alike_are_all_found():
    rules = Rules({"a": ["car", "card", "card  holder", "care"]})

    verdict = rules.judge("care for the card holder, his car and his card")

    assert isinstance(verdict, Verdict)
    assert verdict.confidence == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("language", "keyword", "texts"),
    [
        ("english", "crash", ["My app crashes", "It crashed twice", "CRASHING!", "two crashes"]),
        ("english", "invoice", ["my invoices", "I was invoiced", "the invoice's date"]),
        ("english", "credit card", ["both credit cards", "credit  card", "Credit\nCards."]),
        ("english", "companies", ["my company"]),
        ("english", "log in", ["logging in fails", "he logged in"]),
        ("german", "Rechnung", ["Meine Rechnungen sind falsch", "RECHNUNG"]),
        ("german", "Haus", ["zwei Häuser", "des Hauses"]),
        ("german", "falsche Rechnung", ["zwei falsche Rechnungen", "der falschen Rechnung"]),
        ("french", "facture", ["mes factures", "l’facture", "la somme facturée"]),
        ("french", "remboursement", ["vos remboursements", "Je veux être remboursé"]),
        ("spanish", "factura", ["las facturas", "no me han facturado"]),
        ("spanish", "error", ["muchos errores"]),
        ("italian", "fattura", ["le fatture"]),
        ("russian", "счёт", ["счёта", "счёту"]),
        ("polish", "faktura", ["faktury", "fakturę"]),
        ("hindi", "किताब", ["मेरी किताबें", "किताबों में"]),
        # A script without spaces, and Korean, whose particles stand behind the word.
        ("english", "退款", ["我要退款谢谢"]),
        ("english", "refund", ["请refunds谢谢", "请refund"]),
        ("english", "환불", ["환불을 원해요", "환불해 주세요"]),
    ],
)
def test_keyword_stands_for_its_inflected_forms(language, keyword, texts):
    rules = Rules({"a": [keyword], "b": ["xyzzy"]}, languages={"a": language})

    for text in texts:
        verdict = rules.judge(text)
        assert isinstance(verdict, Verdict), text
        assert verdict.reason == f"keyword '{keyword.casefold()}'"


@pytest.mark.parametrize(
    ("language", "keyword", "text"),
    [
        ("english", "organ", "our organization"),
        ("english", "police", "the policy"),
        ("english", "universe", "a university"),
        ("english", "new", "the news"),
        ("english", "credit card", "credits for the cardinal"),
        ("german", "Rechnung", "ich rechne damit"),
        ("hindi", "बिल", "बिल्ली"),
        ("english", "बिल", "बिलासपुर"),
        ("english", "환불", "무환불"),
        ("english", "v2", "v20"),
    ],
)
def test_keyword_is_not_found_in_other_words(language, keyword, text):
    assert isinstance(Rules({"a": [keyword]}, languages={"a": language}).judge(text), Abstention)


def test_exact_keywords_match_as_they_are_written():
    rules = Rules({"a": ["invoice"], "b": ["환불"], "c": ["crash"]}, languages={"a": None, "b": None})

    assert isinstance(rules.judge("my invoices"), Abstention)
    assert isinstance(rules.judge("환불을"), Abstention)
    assert rules.judge("Invoice!").reason == "keyword 'invoice'"
    # and the other routes keep theirs
    assert rules.judge("it crashes").route == "c"


def test_languages_of_routes_may_differ():
    rules = Rules({"a": ["invoice"], "b": ["Rechnung"]}, languages={"b": "german"})

    assert rules.judge("two invoices").route == "a"
    assert rules.judge("zwei Rechnungen").route == "b"
    assert rules.judge("invoices, Rechnungen") == Abstention("rules", "tie between a and b, 1 keyword each")


def test_keywords_of_one_stem_are_one_keyword():
    verdict = Rules({"a": ["invoice", "invoices"], "b": ["refund"]}).judge("invoice, invoices")

    assert verdict.reason == "keyword 'invoice'"
    assert verdict.confidence == pytest.approx(2 / 3)


def test_languages_of_the_configuration_have_a_stemmer():
    assert set(LANGUAGES.values()) <= set(Stemmer.algorithms())


@given(st.text(max_size=30), st.sampled_from(["english", "german", "hindi", "arabic", "turkish"]))
def test_keyword_finds_itself_in_any_language(keyword, language):
    verdict = Rules({"a": [keyword]}, languages={"a": language}).judge(f"so, {keyword} !")

    assert isinstance(verdict, Verdict) is bool(keyword.strip())


def test_endless_word_and_a_million_words_take_one_pass():
    rules = Rules({"a": ["crash"]})

    assert isinstance(rules.judge("x" * 8_000_000 + " crashes"), Verdict)
    assert isinstance(rules.judge("crashing " * 300_000), Verdict)
