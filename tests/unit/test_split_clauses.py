"""The clauses of `numbered`: the numberings of contracts and laws, and what begins a line with a number by chance."""

import pytest

from tasks.contract.errors import BadInput
from tasks.parallel.split import split


def titles(text):
    return [section.title for section in split(text, "numbered")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("1.Definitions", "2.Term"), ("1\\. Scope", "2\\. Term"), ("(1) Scope", "(2) Term"), ("a) Scope", "b) Term"),
        ("(a) Scope", "(b) Term"), ("i) Scope", "ii) Term"), ("I. Scope", "II. Term"), ("§ 5 Haftung", "§ 6 Ende"),
        ("§5", "§6"), ("Art. 4 Scope", "Art. 5 Term"), ("Article IV Scope", "Article V Term"),
        ("Article One Name", "Article Two Aim"), ("Article 1er Objet", "Article 2 Durée"),
        ("Artículo 1º Objeto", "Artículo 2º Plazo"), ("ARTIKEL 1. Begriffe", "ARTIKEL 2. Dauer"),
        ("Artikel 1", "Artikel 2"), ("Статья 1. Предмет", "Статья 2. Срок"), ("Section 2.1 Scope", "Section 3.1 Term"),
        ("第一条 定义", "第二条 期限"), ("第十二条 定义", "第十三条 期限"), ("第1章 総則", "第2章 雑則"),
        ("제1조 목적", "제2조 정의"),
        ("1、定义", "2、期限"), ("一、总则", "二、期限"), ("（一）总则", "（二）期限"), ("１．定義", "２．期間"),
        ("1 Scope", "2 Term"),
        ("1.1 Scope", "1.2 Term"), ("1.1.1 Scope", "1.1.2 Term"), ("Section 1.1 Scope", "Section 1.2 Term"),
    ],
)  # fmt: skip
def test_numbered_knows_each_numbering(first, second):
    sections = split(f"{first}\nDas gilt.\n\n{second}\nUnd das.\n", "numbered")

    assert [section.text.split("\n")[0] for section in sections] == [first, second]


@pytest.mark.parametrize(
    "text",
    [
        "2019 was good\n2020 was bad", "1999. It was.\n2000. It was not.", "12 EUR per month\n13 EUR per year",
        "1 Mio. EUR\n2 Mio. EUR", "1.000 EUR\n2.000 EUR", "5.00 EUR\n6.00 EUR", "$1 is little\n$2 is more",
        "1. Januar 2024\nx\n2. Februar 2024\ny", "1. Mai 2024, Bonn\n2. Mai 2024, Ulm", "1 March 2024\n2 March 2024",
        "1. janvier 2024\n2. janvier 2024", "1.2.3 Released\n1.2.4 Fixed", "2.0 Beta\n3.0 Final",
        "v1.0 First\nv2.0 Next",
        "3.14 is pi\n3.15 is not", "2.1 Prozent\n3.1 Prozent", "1 Main Street\n2 Main Street",
        "10 Downing Street\n11 Downing Street", "12345 Berlin\n12346 Bonn", "A. Smith\nB. Jones",
        "9:30 Start\n10:30 Next",
        "1% of all\n2% of all", "nach § 5 BGB\nist § 6 anders", "第五条的规定\n第六条的规定", "1st place\n2nd place",
    ],
)  # fmt: skip
def test_numbered_takes_no_year_price_date_or_version(text):
    with pytest.raises(BadInput, match="no numbered clauses"):
        titles(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A. Scope\n1. a\n2. b\n3. c\nB. Term\n1. d\n2. e\nC. End\n", ["A. Scope", "B. Term", "C. End"]),
        (
            (
                "Article I. Powers\nSection 1. a\nx\nSection 2. b\nx\nSection 3. c\nArticle II. More\nSection 1. e\n"
                "Section 2. f\n"
            ),
            ["Article I. Powers", "Article II. More"],
        ),
        ("§ 1 A\n(1) x\n(2) y\n(3) z\n(4) w\n§ 2 B\n(1) x\n(2) y\n", ["§ 1 A", "§ 2 B"]),
        ("(A) We are\n(B) You are\n(C) So\n1. Scope\n(a) p\n2. Term\n(a) r\n", ["Preamble", "1. Scope", "2. Term"]),
        ("第一章 总则\n第一条 甲\n第二条 乙\n第二章 其他\n第一条 丙\n", ["第一章 总则", "第二章 其他"]),
        (
            "1. Price\nIt costs\n12 EUR.\nSince\n1. Januar 2024.\n2. Term\n2019 was the first year.\n",
            ["1. Price", "2. Term"],
        ),
    ],
)
def test_numbered_cuts_at_the_outermost_numbers(text, expected):
    assert titles(text) == expected


@pytest.mark.parametrize("line", ["(1) ", "1.1.1.1 A\n", "a) x\n", "第一条 x\n", "A. ", "§ 1 X\n", "1. Januar "])
def test_numbered_of_hostile_texts_ends(line):
    text = line * 20_000

    try:
        assert "".join(section.text for section in split(text, "numbered")) == text
    except BadInput as error:
        assert error.remedy  # noqa: PT017 - either is right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("---\ntitle: Guide\n\nauthor: Ada\n---\n\n# Start\ntext\n", ["", "Start"]),
        ("+++\ntitle = 'x'\n\n# comment\n[params]\n+++\n# Start\n", ["", "Start"]),
        ("---\n# comment\nx: 1\n...\n# Start\n", ["", "Start"]),
        ("\ufeff---\na: |\n  # no\n\n---\nStart\n===\n", ["", "Start"]),
        ("---\n\nA paragraph\n---\n# Start\n", ["", "A paragraph", "Start"]),
        ("---\n\n# One\n\n---\n\n# Two\n", ["", "One", "Two"]),
    ],
)
def test_headings_know_front_matter_with_blank_lines(text, expected):
    assert [section.title for section in split(text, "headings")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('id,text\n1,"' + "x" * 140_000 + '"\n2,ok\n', ["row 1", "row 2"]),
        ("sep=;\na;b\n1,5;2\n3,5;4\n", ["row 1", "row 2"]),
        ('"sep=|"\r\na|b\r\n1|2\r\n', ["row 1"]),
        ("a;b\n1,5;2,5\n3,5;4,5\n", ["row 1", "row 2"]),
        ('\ufeff"a","b"\r"x\ry",1\r', ["row 1"]),
        ("a,b\n1,2,3\n4,5\n6\n7,8\n", ["row 1 (3 values, not 2)", "row 2", "row 3 (1 value, not 2)", "row 4"]),
    ],
)
def test_rows_read_csv_as_programs_write_it(text, expected):
    assert [section.title for section in split(text, "rows")] == expected


def test_rows_refuse_what_they_would_have_to_guess():
    with pytest.raises(BadInput, match="';' or ','"):
        split("1,5;2,5\n3,5;4,5\n", "rows")
    with pytest.raises(BadInput, match="line 2 begins a row that can't be read"):
        split('a,b\n1,"x\n2,y\n', "rows")

    assert len(split("1,5;2,5\n3,5;4,5\n", "rows", {"delimiter": ";", "header": False})) == 2


def test_json_of_deep_nesting_is_refused():
    with pytest.raises(BadInput, match="not JSON"):
        split("[" * 100_000, "json")
