"""DOCX: automatic numbers become text, and nothing that Word shows is left out in silence."""

import io
import zipfile

import pytest

from tasks.documents.docx import read_docx
from tasks.documents.numerals import numeral
from tasks.documents.plain import Unreadable
from tasks.parallel.split import split
from tests.documents import docx

SPACES = " ".join(
    f'xmlns:{prefix}="{uri}"'
    for prefix, uri in {
        "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
        "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
        "r": "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
        "v": "urn:schemas-microsoft-com:vml",
        "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
        "w14": "http://schemas.microsoft.com/office/word/2010/wordml",
        "a": "http://schemas.openxmlformats.org/drawingml/2006/main",
    }.items()
)


def level(at, form, text, more=""):
    return (
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/>{more}</w:lvl>'
    )


def numbers(*levels, nums='<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>', more=""):
    inner = "".join(levels)
    return f'<w:numbering {SPACES}><w:abstractNum w:abstractNumId="0">{inner}</w:abstractNum>{more}{nums}</w:numbering>'


def paragraph(text, at=None, num=1, style="", inside=None):
    number = "" if at is None else f'<w:numPr><w:ilvl w:val="{at}"/><w:numId w:val="{num}"/></w:numPr>'
    named = f'<w:pStyle w:val="{style}"/>' if style else ""
    run = f"<w:r><w:t>{text}</w:t></w:r>" if inside is None else inside
    return f"<w:p><w:pPr>{named}{number}</w:pPr>{run}</w:p>"


def read(*body, numbering=None, styles=None, **parts):
    files = {"word/document.xml": f"<w:document {SPACES}><w:body>{''.join(body)}</w:body></w:document>"}
    files |= {"word/numbering.xml": numbering} if numbering else {}
    files |= {"word/styles.xml": f"<w:styles {SPACES}>{styles}</w:styles>"} if styles else {}
    return read_docx(docx(files=files | parts))


def lines(*body, **more):
    return [line.strip() for line in read(*body, **more).text.split("\n") if line.strip()]


def test_docx_clauses_with_automatic_numbers_are_cut_by_numbered():
    body = [
        paragraph(text, at) for name in ("Definitions", "Term", "Liability") for text, at in ((name, 0), ("x", None))
    ]

    text = read(*body, numbering=numbers(level(0, "decimal", "%1."))).text

    assert [one.title for one in split(text, "numbered")] == ["1. Definitions", "2. Term", "3. Liability"]


def test_docx_numbers_have_levels_formats_and_restarts():
    levels = (
        level(0, "upperRoman", "Article %1"),
        level(1, "decimal", "%1.%2", "<w:isLgl/>"),
        level(2, "lowerLetter", "(%3)"),
        level(3, "decimalZero", "%4:", '<w:lvlRestart w:val="0"/>'),
    )
    ats = [0, 1, 2, 2, 3, 1, 2, 3, 0, 1, 3]

    found = lines(*(paragraph("x", at) for at in ats), numbering=numbers(*levels))

    assert [line.removesuffix(" x") for line in found] == [
        "Article I", "1.1", "(a)", "(b)", "01:", "1.2", "(a)", "02:", "Article II", "2.1", "03:",
    ]  # fmt: skip


def test_docx_lists_share_their_counts_and_an_override_starts_anew():
    nums = (
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="0"/></w:num>'
        '<w:num w:numId="3"><w:abstractNumId w:val="0"/>'
        '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride></w:num>'
        f'<w:num w:numId="4"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0">{level(0, "lowerRoman", "%1)")}'
        "</w:lvlOverride></w:num>"
    )
    order = [1, 2, 3, 3, 4, 0, 9]

    found = lines(*(paragraph("x", 0, num) for num in order), numbering=numbers(level(0, "decimal", "%1."), nums=nums))

    assert found == ["1. x", "2. x", "7. x", "8. x", "ix) x", "x", "x"]


def test_docx_numbers_and_headings_come_from_styles_and_their_bases():
    styles = (
        '<w:style w:type="paragraph" w:styleId="H1"><w:name w:val="heading 1"/><w:pPr><w:numPr><w:numId w:val="1"/>'
        '</w:numPr></w:pPr></w:style><w:style w:type="paragraph" w:styleId="H2"><w:name w:val="heading 2"/>'
        '<w:basedOn w:val="H1"/></w:style><w:style w:type="paragraph" w:styleId="Mine"><w:name w:val="Our clause"/>'
        '<w:basedOn w:val="H2"/></w:style><w:style w:type="paragraph" w:styleId="Off"><w:name w:val="x"/>'
        '<w:basedOn w:val="H1"/><w:pPr><w:outlineLvl w:val="9"/><w:numPr><w:numId w:val="0"/></w:numPr></w:pPr>'
        "</w:style>"
    )
    numbering = numbers(
        level(0, "decimal", "%1", '<w:pStyle w:val="H1"/>'), level(1, "decimal", "%1.%2", '<w:pStyle w:val="H2"/>')
    )

    found = lines(
        *(paragraph(name, style=name) for name in ("H1", "H2", "Mine", "Off", "H1")),
        numbering=numbering, styles=styles,
    )  # fmt: skip

    assert found == ["# 1 H1", "## 1.1 H2", "## 1.2 Mine", "Off", "# 2 H1"]


def test_docx_list_style_is_followed_to_its_numbering():
    styles = (
        '<w:style w:type="numbering" w:styleId="L"><w:name w:val="L"/>'
        '<w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr></w:style>'
    )
    more = (
        f'<w:abstractNum w:abstractNumId="5"><w:styleLink w:val="L"/>{level(0, "upperLetter", "%1)")}</w:abstractNum>'
    )
    nums = (
        '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num><w:num w:numId="2"><w:abstractNumId w:val="5"/></w:num>'
    )
    numbering = numbers('<w:numStyleLink w:val="L"/>', nums=nums, more=more)

    assert lines(paragraph("x", 0), paragraph("y", 0), numbering=numbering, styles=styles) == ["A) x", "B) y"]


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("decimal", "12"), ("decimalZero", "12"), ("upperRoman", "XII"), ("lowerLetter", "l"), ("ordinal", "12th"),
        ("cardinalText", "Twelve"), ("ordinalText", "Twelfth"), ("chineseCounting", "十二"), ("none", ""),
        ("decimalEnclosedCircle", "⑫"), ("russianLower", "м"), ("unknownOne", "12"),
    ],
)  # fmt: skip
def test_numeral_writes_the_formats_of_word(form, written):
    assert numeral(12, form) == written


@pytest.mark.parametrize("start", ["99999999999999999999", "-5", "x", ""])
def test_docx_numbers_of_hostile_lists_stay_short(start):
    numbering = numbers(level(0, "lowerRoman", "%1.").replace('<w:start w:val="1"/>', f'<w:start w:val="{start}"/>'))

    assert len(read(paragraph("x", 0), numbering=numbering).text) < 20


MATHS = (
    "<m:oMathPara><m:oMath><m:r><m:t>x=</m:t></m:r><m:f><m:num><m:r><m:t>-b±</m:t></m:r><m:rad><m:deg/><m:e><m:sSup>"
    "<m:e><m:r><m:t>b</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:e></m:rad></m:num><m:den>"
    "<m:r><m:t>2a</m:t></m:r></m:den></m:f></m:oMath></m:oMathPara>"
)
BOX = (
    '<w:r><mc:AlternateContent><mc:Choice Requires="wps"><w:drawing><wps:txbx><w:txbxContent>{0}</w:txbxContent>'
    "</wps:txbx></w:drawing></mc:Choice><mc:Fallback><w:pict><v:shape><v:textbox><w:txbxContent>{0}</w:txbxContent>"
    "</v:textbox></v:shape></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
)
FORM = (
    '<w:r><w:fldChar w:fldCharType="begin"><w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="red"/>'
    '<w:listEntry w:val="blue"/></w:ddList></w:ffData></w:fldChar></w:r><w:r><w:instrText>FORMDROPDOWN</w:instrText>'
    '</w:r><w:r><w:fldChar w:fldCharType="end"/></w:r>'
)


@pytest.mark.parametrize(
    ("inside", "shown"),
    [
        (MATHS, "x=(-b±√(b^2))/(2a)"),
        (BOX.format(paragraph("boxed")), "boxed"),
        (("<w:r><w:drawing><wps:txbx><w:txbxContent><w:p><w:r><w:t>alone</w:t></w:r></w:p></w:txbxContent></wps:txbx>"
         "</w:drawing></w:r>"), "alone"),
        ('<w:fldSimple w:instr="DATE"><w:r><w:t>today</w:t></w:r></w:fldSimple>', "today"),
        (('<w:r><w:instrText>PAGE</w:instrText></w:r><w:ins w:id="1"><w:r><w:t>new</w:t></w:r></w:ins>'
         '<w:del w:id="2"><w:r><w:delText>old</w:delText></w:r></w:del>'), "new"),
        ("<w:r><w:rPr><w:vanish/></w:rPr><w:t>hidden</w:t></w:r><w:r><w:t>so\u00adft</w:t></w:r>", "soft"),
        (("<w:r><w:ruby><w:rt><w:r><w:t>kan</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>漢</w:t></w:r></w:rubyBase></w:ruby>"
         "</w:r>"), "漢(kan)"),
        (("<w:sdt><w:sdtPr><w14:checkbox><w14:checked w14:val='1'/></w14:checkbox></w:sdtPr><w:sdtContent><w:r><w:t>☒"
         "</w:t></w:r></w:sdtContent></w:sdt>"), "[x]"),
        (FORM, "blue"),
        ('<w:r><w:t>10</w:t></w:r><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:t>6</w:t></w:r>', "10^6^"),
        ('<w:r><w:pict><v:shape><v:textpath string="DRAFT"/></v:shape></w:pict></w:r>', "DRAFT"),
        ("<w:dir w:val='rtl'><w:r><w:t>שלום</w:t></w:r></w:dir>", "שלום"),
        ('<w:r><w:sym w:font="Wingdings" w:char="F0FE"/></w:r>', "🗹"),
    ],
    ids=["equation", "box", "new box", "field", "tracked", "hidden", "ruby", "check box", "list", "exponent",
         "word art", "mixed", "symbol"],
)  # fmt: skip
def test_docx_shows_what_word_shows_and_once(inside, shown):
    assert lines(paragraph("", inside=inside)) == [shown]


def test_docx_main_part_is_found_by_its_relation():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in _parts(docx([("Heading1", "Here")])).items():
            archive.writestr(
                name.replace("document.xml", "document2.xml"), text.replace("document.xml", "document2.xml")
            )

    assert read_docx(packed.getvalue()).text == "# Here\n"


def test_docx_in_the_strict_form_of_the_standard_is_read_alike():
    strict = "http://purl.oclc.org/ooxml/"
    renamed = {
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main": f"{strict}wordprocessingml/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/": f"{strict}officeDocument/",
    }
    files = {
        "word/document.xml": f"<w:document {SPACES}><w:body>{paragraph('x', 0)}</w:body></w:document>",
        "word/numbering.xml": numbers(level(0, "decimal", "%1.")),
        "_rels/.rels": "",
        "word/_rels/document.xml.rels": "",
    }
    files |= {name: text for name, text in _parts(docx()).items() if not files.get(name)}
    for old, new in renamed.items():
        files = {name: text.replace(old, new) for name, text in files.items()}

    assert read_docx(docx(files=files)).text == "1. x\n"


def _parts(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_docx_names_what_is_not_read():
    reading = read(paragraph("text", inside="<w:r><w:t>text</w:t><w:drawing><a:blip/></w:drawing></w:r>"))

    assert [gap.reason for gap in reading.gaps] == ["1 picture"]
    with pytest.raises(Unreadable, match="1 embedded file"):
        read("<w:altChunk r:id='x'/>")


def test_docx_marks_of_our_own_in_a_text_are_text():
    assert lines(paragraph("\ufdd07\ufdd1 x", 0), numbering=numbers(level(0, "decimal", "%1."))) == ["1. 7 x"]
