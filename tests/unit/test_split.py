from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contract import plugins
from tasks.contract.errors import BadInput
from tasks.parallel.split import SPLITS, Section, split

#: The splits that cut a text; of the others, one takes files and one asks a model.
CUTTING = [name for name in SPLITS.names if SPLITS.traits(name).by == "text"]
#: Those among them that promise to lose no character, whatever the text.
LOSSLESS = [name for name in CUTTING if name not in {"json", "rows"}]
ROOT = Path(__file__).parents[2]
#: Left out where they are absent, by having no case: a checkout without the data loses these tests only.
DOCUMENTS = sorted((ROOT / "../shared/data/documents").glob("*.txt"))
EXPECTED = {
    "gpl-3": (range(18), "How to Apply These Terms to Your New Programs"),
    "apache-2.0": (range(1, 10), "APPENDIX: How to apply the Apache License to your work"),
    "mpl-2.0": (range(1, 11), "Exhibit A - Source Code Form License Notice"),
    "oos-eval-paper": (range(1, 6), "References"),
}


def titles(text: str, how: str = "numbered") -> list[str]:
    return [section.title for section in split(text, how)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_numbered_cuts_a_real_document_at_its_clauses(path):
    text = path.read_text(encoding="utf-8")

    sections = split(text, "numbered")

    numbers, after = EXPECTED[path.stem]
    assert [section.title.split()[0].rstrip(".") for section in sections[1:-1]] == [str(n) for n in numbers]
    assert sections[0].title == "Preamble"
    assert sections[-1].title == after
    assert "".join(section.text for section in sections) == text


def test_numbered_finds_nine_clauses_preamble_and_appendix_in_our_licence():
    sections = split((ROOT / "LICENSE").read_text(encoding="utf-8"), "numbered")

    assert [section.index for section in sections] == list(range(11))
    assert sections[1].title == "1. Definitions"
    assert sections[2].title == "2. Grant of Copyright License"
    assert sections[9].title == "9. Accepting Warranty or Additional Liability"
    assert sections[10].text.lstrip().startswith("END OF TERMS AND CONDITIONS")


def test_numbered_ignores_lists_in_clauses_and_in_the_appendix():
    text = (
        "1. Scope\n\nThese apply:\n\n1. first\n2. second\n3. third\n\n2. Term\n\nSince 2019. Not before\n"
        "2007. Nor then.\n\n3. End\n\nSee clause\n4. It says so.\n\n"
        "Appendix A: Steps\n\n4. Install\n\ntext\n\n5. Run\n\ntext\n"
    )

    assert titles(text) == ["1. Scope", "2. Term", "3. End", "Appendix A: Steps"]


def test_numbered_ignores_an_indented_list():
    text = "1. A\n   1. x\n   2. y\n   3. z\n2. B\n   1. x\n   2. y\n3. C\ntext\n"

    assert titles(text) == ["1. A", "2. B", "3. C"]


def test_numbered_leaves_a_table_of_contents_in_the_preamble():
    contents = "1. Scope ........ 1\n2. Term ......... 2\n3. End .......... 3\n\n"
    body = "1. Scope\n\nAll.\n\n2. Term\n\nLong.\n\n3. End\n\nNever.\n"

    sections = split(contents + body, "numbered")

    assert sections[0].text == contents
    assert [section.title for section in sections[1:]] == ["1. Scope", "2. Term", "3. End"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Section 1. Scope.\nx\nSection 2. Term.\nas in\nSection 3 of this\n", ["Section 1. Scope", "Section 2. Term"]),
        ("§ 1 Geltung\nx\n§ 2 Kündigung\ny\n", ["§ 1 Geltung", "§ 2 Kündigung"]),
        ("Article 1\n\nSubject\n\nx y.\n\nArticle 2\n\nScope\n\nz.\n", ["Article 1 Subject", "Article 2 Scope"]),
        (
            "ARTICLE I. Name\nx\nARTICLE II. Purpose\ny\nARTICLE III. End\n",
            ["ARTICLE I. Name", "ARTICLE II. Purpose", "ARTICLE III. End"],
        ),
        ("## 1. Scope\nx\n## 2. Term\n### 1. a\n### 2. b\n## 3. End\n", ["1. Scope", "2. Term", "3. End"]),
        ("**1. Scope**\nx\n\n**2. Term**\ny\n", ["1. Scope", "2. Term"]),
        ("1) Scope\r\nx\r\n2) Term\r\n", ["1) Scope", "2) Term"]),
        ("1.1 Scope\nx\n1.2 More\n2.1 Term\ny\n3.1 End\n", ["1.1 Scope", "2.1 Term", "3.1 End"]),
        (" 8. H\nx\n 9. I\ny\n10. J\nz\n", ["8. H", "9. I", "10. J"]),
        ("1. A\nx\n\n2. B\ny\n\n4. D\nz\n", ["1. A", "2. B", "4. D"]),
    ],
)
def test_numbered_knows_the_styles_of_real_contracts(text, expected):
    assert titles(text) == expected


def test_headings_of_both_markdown_kinds_begin_sections():
    text = "intro\n\n# One #\na\n```\n# no\n```\nTwo\n===\nb\n\n- item\n---\n### C#\n~~~\n# no\n"

    assert titles(text, "headings") == ["", "One", "Two", "C#"]


def test_headings_are_not_found_in_front_matter_comments_and_code():
    text = "---\ntitle: x\n---\n<!--\n# no\n-->\n    # no\n\n#no\n\n# Yes\n"

    assert titles(text, "headings") == ["", "Yes"]


@pytest.mark.parametrize("how", CUTTING)
@pytest.mark.parametrize("text", ["", "\n \n", "\f\f"])
def test_split_refuses_an_empty_document_with_a_remedy(how, text):
    with pytest.raises(BadInput) as caught:
        split(text, how)

    assert caught.value.field == "text"
    assert caught.value.remedy


@pytest.mark.parametrize("how", ["headings", "json", "numbered", "pages", "rows"])
def test_split_refuses_a_document_without_its_sections_with_a_remedy(how):
    with pytest.raises(BadInput) as caught:
        split("Just a letter.\n\nIn 2019, we met.\n", how)

    assert caught.value.field == "text"
    assert caught.value.remedy
    assert "letter" not in str(caught.value)


@pytest.mark.parametrize("how", ["lines", "paragraphs", "sentences", "tokens"])
def test_split_of_a_document_with_one_section_returns_one(how):
    assert [section.text for section in split("Just a letter.\n", how)] == ["Just a letter.\n"]


@pytest.mark.parametrize("name", sorted(set(SPLITS.names) - set(CUTTING)))
def test_split_that_cuts_no_text_raises_with_a_remedy(name):
    with pytest.raises(BadInput) as caught:
        split("A text.", name)

    assert caught.value.field == "split"
    assert caught.value.remedy


def test_split_named_lists_the_splits_for_an_unknown_name():
    with pytest.raises(BadInput) as caught:
        split("1. a\n2. b", "chapters")

    assert caught.value.field == "split"
    assert all(name in caught.value.remedy for name in SPLITS.names)


NUMBERED = [
    "1. A",
    "2. B",
    "3. C.",
    "  1. x",
    "10. Y",
    "§ 1 Z",
    "§ 2",
    "Article IV",
    "\f1 X",
    "Appendix A",
    "END OF TERMS",
]
MARKDOWN = ["# H", "## 1. K", "T", "===", "---", "```", "~~~", "<!--", "-->", "*", "", "text"]
ENDS = st.sampled_from(["\n", "\r\n", "\r", "\n\n"])


TABLES = [
    "a,b",
    '"x',
    'y"',
    "| a | b |",
    "|---|---|",
    "1\t2",
    '{"a": [1]}',
    '["x", ""]',
    "\f",
    "。",
    "Dr. A? B!",
    "```",
]


def whole(sections):
    """The document, of sections that repeat parts of one another."""
    return "".join(section.text[section.repeated :] for section in sections)


def documents(*more):
    lines = st.sampled_from([*NUMBERED, *MARKDOWN, *TABLES]) | st.text(max_size=9) | st.sampled_from([" ", *more])
    return st.lists(st.tuples(lines, ENDS | st.just(" "))).map(lambda rows: "".join(a + b for a, b in rows))


@given(how=st.sampled_from(CUTTING), text=documents())
def test_split_raises_only_bad_input_and_loses_no_text(how, text):
    try:
        sections = split(text, how)
    except BadInput:
        return
    assert sections
    assert [section.index for section in sections] == list(range(len(sections)))
    assert all(section.text for section in sections)
    assert all(len(section.title) <= 200 for section in sections)
    if how in LOSSLESS:
        assert whole(sections) == text


UNITS = [
    " ", "1. A\n", "1. ", "#", "# A\n", "*\n", ".", "\n", "1. A\n2. B\n", "x", "\r", "\n ", ". ", "a. ", "\f", '"',
    '",', "|", "|-", "- |\n|-|\n", "```\n", "[", "[1,", '{"a":', "\n- ", "。", "(", "😀", "0", "A b ", "x\n\n",
]  # fmt: skip


@pytest.mark.parametrize("how", CUTTING)
@pytest.mark.parametrize("unit", UNITS)
def test_split_of_a_megabyte_takes_no_quadratic_time(how, unit):
    text = "1. A\n2. B\n# H\n\f" + unit * (300_000 // len(unit))
    try:
        sections = split(text, how)
    except BadInput:
        return
    assert how not in LOSSLESS or whole(sections) == text


MANY = {
    "headings": "# H\ntext\n",
    "json": '"item"\n',
    "lines": "line\n",
    "pages": "page\f",
    "paragraphs": "words\n\n",
    "rows": "a,b\n",
    "sentences": "One thing is said. ",
    "tokens": "The words of this sentence are some sixteen tokens together, so it goes alone. ",
}


@pytest.mark.parametrize(("how", "unit"), MANY.items())
def test_split_into_fifty_thousand_sections_takes_linear_time(how, unit):
    sections = split(unit * 50_000, how, {"budget": 16} if how == "tokens" else {})

    assert 49_999 <= len(sections) <= 50_000


# -- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "given", "field", "message"),
    [
        ("headings", {"level": 0}, "split_options.level", "greater than or equal to 1"),
        ("headings", {"depth": 2}, "split_options.depth", "level"),
        ("lines", {"lines": "2"}, "split_options.lines", "integer"),
        ("numbered", {"level": 1}, "split_options", "no options"),
        ("tokens", {"budget": 100, "overlap": 51}, "split_options.overlap", "50"),
        ("tokens", {"budget": 1}, "split_options.budget", "16"),
        ("plan", {"most": 201}, "split_options.most", "200"),
        ("rows", {"header": "yes"}, "split_options.header", "boolean"),
    ],
)
def test_split_options_error_names_the_wrong_option(how, given, field, message):
    with pytest.raises(BadInput) as caught:
        SPLITS.options(how, given)

    assert caught.value.field == field
    assert message in str(caught.value)


def test_plan_options_have_defaults():
    assert SPLITS.options("plan", {}).model_dump() == {"most": 12, "prompt": None}


def test_split_of_another_package_is_found_by_its_entry_point(monkeypatch):
    class Point:
        name = "halves"

        @staticmethod
        def load():
            return lambda text: [Section(0, "", text[: len(text) // 2]), Section(1, "", text[len(text) // 2 :])]

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point] if group == SPLITS.group else [])
    monkeypatch.setattr(SPLITS, "__dict__", plugins.Plugins(SPLITS.group, "split", SPLITS._plain).__dict__)
    assert [section.text for section in split("abcd", "halves")] == ["ab", "cd"]
