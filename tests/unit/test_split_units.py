"""Each split by units of text or of data: where it cuts, and how it titles the sections."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract.errors import BadInput
from tasks.contract.tokens import count, estimate
from tasks.parallel.split import split


def cut(text, how, **options):
    return [(section.title, section.text) for section in split(text, how, options)]


def texts(text, how, **options):
    return [section.text for section in split(text, how, options)]


# -- headings, pages, paragraphs, sentences, lines -----------------------------------------------------------------


def test_headings_below_the_level_stay_in_their_section():
    text = "# A\n## B\n### C\nx\n## D\n# E\n"

    assert [title for title, _ in cut(text, "headings", level=1)] == ["A", "E"]
    assert [title for title, _ in cut(text, "headings", level=2)] == ["A", "B", "D", "E"]
    with pytest.raises(BadInput, match="level 1 or above"):
        split("## B\nx\n", "headings", {"level": 1})


def test_pages_end_with_their_form_feed_and_keep_their_numbers():
    assert cut("one\f\ftwo\f", "pages") == [("page 1", "one\f"), ("page 2", "\f"), ("page 3", "two\f")]
    assert cut("one\ftwo", "pages") == [("page 1", "one\f"), ("page 2", "two")]
    assert cut("only\f\n", "pages") == [("page 1", "only\f\n")]


def test_paragraphs_end_at_blank_lines_but_not_within_code():
    text = "\n\nOne\nstill.\n \n\n```\na\n\nb\n```\nafter\r\n\r\nThree"

    assert cut(text, "paragraphs") == [
        ("paragraph 1", "\n\nOne\nstill.\n \n\n"),
        ("paragraph 2", "```\na\n\nb\n```\nafter\r\n\r\n"),
        ("paragraph 3", "Three"),
    ]


def test_paragraphs_below_the_least_size_are_united():
    text = "Head\n\nA longer one.\n\nAnother long one.\n\nEnd"

    assert cut(text, "paragraphs", least_characters=10) == [
        ("paragraphs 1–2", "Head\n\nA longer one.\n\n"),
        ("paragraphs 3–4", "Another long one.\n\nEnd"),
    ]
    assert [title for title, _ in cut(text, "paragraphs", least_characters=1000)] == ["paragraphs 1–4"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four…", ["One. ", "Two! ", "Three? ", "Four…"]),
        ('He said "Go." Then left.', ['He said "Go." ', "Then left."]),
        ("Dr. Smith of Acme Inc. met J. R. Smith at 3.5 p.m. on Monday.", None),
        ("See e.g. Fig. 3 and No. 5. It is U.S. law.", ["See e.g. Fig. 3 and No. 5. ", "It is U.S. law."]),
        ("Did he? No. He left.", ["Did he? ", "No. ", "He left."]),
        ("今日は晴れ。明日は雨！本当？はい", ["今日は晴れ。", "明日は雨！", "本当？", "はい"]),
        ("A title\n\nA sentence\nover lines. Next.", ["A title\n\n", "A sentence\nover lines. ", "Next."]),
        ("These:\n- one\n- two\n\nEnd.", ["These:\n", "- one\n", "- two\n\n", "End."]),
        ("1. First thing.\n2. Second thing.", ["1. First thing.\n", "2. Second thing."]),
        ("z.B. so. Und usw. geht es.", ["z.B. so. ", "Und usw. geht es."]),
        ("What?! Really... yes.", ["What?! ", "Really... yes."]),
    ],
)
def test_sentences_end_where_people_end_them(text, expected):
    assert texts(text, "sentences") == (expected or [text])


def test_lines_are_counted_as_in_an_editor_and_keep_following_blank_lines():
    text = "\na\n\nb\r\nc\rd"

    assert cut(text, "lines") == [("line 2", "\na\n\n"), ("line 4", "b\r\n"), ("line 5", "c\r"), ("line 6", "d")]
    assert cut(text, "lines", lines=3) == [("lines 2–5", "\na\n\nb\r\nc\r"), ("line 6", "d")]


# -- tokens --------------------------------------------------------------------------------------------------------

PROSE = "Whoever reads this sentence has read eleven words or so of it. "


def test_tokens_fill_the_budget_with_whole_paragraphs():
    paragraph = PROSE * 3 + "\n\n"
    fits = int(2.5 * count(paragraph))

    sections = split(paragraph * 5, "tokens", {"budget": fits})

    assert [section.text for section in sections] == [paragraph * 2, paragraph * 2, paragraph]
    assert [section.title for section in sections] == ["part 1 of 3", "part 2 of 3", "part 3 of 3"]


def test_tokens_cut_paragraphs_at_sentences_and_sentences_at_words():
    by_sentence = texts(PROSE * 30, "tokens", budget=40)
    assert set(by_sentence) == {PROSE * int(40 / count(PROSE))}

    by_word = texts("word " * 200, "tokens", budget=20)
    assert len(by_word) > 1
    assert all(set(text.split()) == {"word"} for text in by_word)


def test_tokens_overlap_begins_with_a_sentence_that_fits_or_a_word():
    by_sentence = split(PROSE * 30, "tokens", {"budget": 60, "overlap": 20})
    assert all(section.text[: section.repeated] == PROSE for section in by_sentence[1:])

    by_word = split("some words that go on and on " * 60, "tokens", {"budget": 60, "overlap": 20})
    assert all(section.repeated for section in by_word[1:])
    assert all(section.text[section.repeated - 1] == " " for section in by_word[1:])


WORDS = st.sampled_from(
    ["a", "word", "internationalization", "12345", "x" * 300, "1" * 200, "😀" * 40, "漢字の文。", "—", "\n\n", "\n",
     "é", "End.", "  ", "{}[]();", "Москва"]
)  # fmt: skip


@given(
    text=st.lists(WORDS).map(" ".join) | st.lists(WORDS).map("".join),
    budget=st.integers(16, 200),
    share=st.floats(0, 0.5),
)
def test_tokens_keep_the_budget_and_repeat_the_end_of_the_section_before(text, budget, share):
    overlap = int(share * budget)
    if not text.strip():
        return

    sections = split(text, "tokens", {"budget": budget, "overlap": overlap})

    assert "".join(section.text[section.repeated :] for section in sections) == text
    assert all(estimate(section.text) <= budget for section in sections)
    assert sections[0].repeated == 0
    for before, section in pairwise(sections):
        assert before.text.endswith(section.text[: section.repeated])
        assert count(section.text[: section.repeated]) <= overlap
        assert len(section.text) > section.repeated


# -- JSON ----------------------------------------------------------------------------------------------------------


def test_elements_are_texts_as_they_are_and_other_values_as_compact_json():
    text = json.dumps(["a text", {"b": [1, 2.5, "ü"]}, 3, None, " "])

    assert cut(text, "json") == [("item 1", "a text"), ("item 2", '{"b":[1,2.5,"ü"]}'), ("item 3", "3")]


def test_elements_path_leads_to_the_array_and_a_field_titles_sections():
    text = json.dumps({"a": [{"b": [{"name": "N 1", "x": 1}, {"name": 2}, {"name": None}, "s"]}]})

    assert cut(text, "json", path="a.0.b", title="name") == [
        ("N 1", '{"name":"N 1","x":1}'),
        ("2", '{"name":2}'),
        ("item 3", '{"name":null}'),
        ("item 4", "s"),
    ]


def test_elements_reads_json_lines_as_an_array():
    assert texts('\ufeff{"a": 1}\n\n{"a": 2}\r\n"x"', "json") == ['{"a":1}', '{"a":2}', "x"]


@pytest.mark.parametrize(
    ("text", "options", "field", "message"),
    [
        ('{"secret": [1]}', {}, "split_options.path", "an object, not an array"),
        ('{"secret": [1]}', {"path": "b"}, "split_options.path", "'b' is not in"),
        ('{"secret": [1]}', {"path": "secret.1"}, "split_options.path", "'1' is not in"),
        ('{"secret": 5}', {"path": "secret"}, "split_options.path", "a single value"),
        ('{"secret": 1}\n{"secret": 2}', {"path": "secret"}, "split_options.path", "one on each line"),
        ("[]", {}, "text", "no element"),
        ('["", null]', {}, "text", "no element"),
        ('{"secret": 1}\n{"secret": ', {}, "text", "line 2 is not JSON"),
        ("[1, NaN]", {}, "text", "is not JSON"),
        ("[" * 100_000, {}, "text", "is not JSON"),
        ("[1e999]", {}, "text", ""),
    ],
)
def test_elements_refuses_unsuitable_json_without_quoting_it(text, options, field, message):
    with pytest.raises(BadInput) as caught:
        split(text, "json", options)

    assert caught.value.field == field
    assert message in caught.value.problem
    assert caught.value.remedy
    assert "secret" not in caught.value.problem.replace("'secret'", "")


# -- rows ----------------------------------------------------------------------------------------------------------


def test_rows_of_a_csv_stand_under_its_header():
    text = 'name,price\n"Apple, red",3\n"A ""big""\nPear",4\n\nFig,5'

    assert cut(text, "rows") == [
        ("row 1", 'name,price\n"Apple, red",3\n'),
        ("row 2", 'name,price\n"A ""big""\nPear",4\n\n'),
        ("row 3", "name,price\nFig,5"),
    ]
    assert "".join(section.text[section.repeated :] for section in split(text, "rows")) == text


def test_rows_are_grouped_and_without_header_all_are_alike():
    text = "\n1\t2\n3\t4\n5\t6\n"

    assert cut(text, "rows", rows=2, header=False) == [("rows 1–2", "\n1\t2\n3\t4\n"), ("row 3", "5\t6\n")]
    assert cut(text, "rows", rows=2) == [("rows 1–2", "\n1\t2\n3\t4\n5\t6\n")]


def test_rows_cuts_markdown_tables_and_leaves_out_the_text_around_them():
    tables = "Intro, a.\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n\nMore\n\na | b\n--|--\n5 | 6\n\n"
    text = tables + "```\n|x|\n|-|\n|y|\n```\n"

    assert cut(text, "rows") == [
        ("table 1, row 1", "| a | b |\n|---|:-:|\n| 1 | 2 |\n"),
        ("table 1, row 2", "| a | b |\n|---|:-:|\n| 3 | 4 |\n"),
        ("table 2, row 1", "a | b\n--|--\n5 | 6\n"),
    ]
    assert texts(text, "rows", header=False) == ["| 1 | 2 |\n", "| 3 | 4 |\n", "5 | 6\n"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "no table"),
        ("| a |\n|---|\n", "no rows"),
        ("Dear John, hi\nthis is\nno table\n", "no common number"),
        ("one\ntwo\n", "no table"),
        ('a,b\n"open,' + "x" * 200_000, "line 2 begins a row"),
    ],
)
def test_rows_refuses_a_text_without_rows(text, message):
    with pytest.raises(BadInput, match=message):
        split(text, "rows")
