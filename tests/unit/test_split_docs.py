"""The reference of splits agrees with the code, and its example of a custom split works."""

import base64
import json
import re
import sys
from types import ModuleType

import pytest

from tasks.config.config import Limits
from tasks.contract import plugins
from tasks.contract.job import Job, parse_job
from tasks.documents import ENDINGS, docx, pdf, reader
from tasks.parallel.split import SPLITS, split
from tests.unit.test_docs import REFERENCE, blocks, first_column, section
from tests.unit.test_split import LOSSLESS
from tests.unit.test_strategies_docs import rows

PAGE = REFERENCE / "splits.md"


@pytest.mark.parametrize("name", SPLITS.names)
def test_split_docs_have_a_section_with_options_types_and_defaults(name):
    text = section(PAGE, name)
    kind = SPLITS.traits(name).options

    documented = re.findall(r"^(\| `\w+` \| .*? \| `.*?` \|) .* \|$", text, re.MULTILINE)

    assert documented == (rows(kind) if kind is not None else [])
    assert ("No options." in text) == (kind is None)


def test_split_docs_table_marks_the_lossless_splits():
    documented = re.findall(r"^\| `(\w+)` \| (yes|no) \|", section(PAGE, "All of them"), re.MULTILINE)

    assert documented == [(name, "yes" if name in {*LOSSLESS, "files"} else "no") for name in SPLITS.names]


def test_split_docs_advice_names_every_split():
    assert set(re.findall(r"\(#(\w+)\)", section(PAGE, "Which one"))) == set(SPLITS.names)


@pytest.mark.parametrize("text", [text for _, text in blocks(PAGE, "json")])
def test_split_docs_examples_are_valid_jobs(text):
    job = parse_job(json.loads(text.replace("JVBERi0…", base64.b64encode(b"x").decode())))

    assert SPLITS.options(job.split, job.split_options) is not None or not job.split_options


def test_split_docs_endings_and_limits_are_those_of_the_code():
    documented = re.findall(r"`(\.\w+)`", "".join(first_column(section(PAGE, "Documents"), "ending")))
    limits = section(PAGE, "Limits of documents")

    assert set(re.findall(r"`(\.\w+)`", section(PAGE, "Documents"))) >= set(ENDINGS)
    assert set(documented) <= set(ENDINGS)
    assert f"{reader.SECONDS} s, and {reader.MEMORY / 2**30:g} GiB" in limits
    assert f"| {pdf.PAGES:,} |" in limits
    assert f"{docx.UNPACKED_BYTES // 2**20} MiB, of it {docx.XML_BYTES // 2**20} MiB" in limits
    assert f"{docx.ENTRIES:,} files" in limits
    assert f"{Limits().payload_bytes // 2**20} MiB" in limits
    assert f"| {Job.model_fields['files'].metadata[1].max_length:,} |" in limits


def test_split_docs_custom_split_is_found_by_name_with_its_options(monkeypatch):
    (code,) = (text for _, text in blocks(PAGE, "python"))
    (project,) = (text for _, text in blocks(PAGE, "toml"))
    name, module, function = re.search(r'^(\w+) = "(\w+):(\w+)"$', project, re.MULTILINE).groups()
    made = ModuleType(module)
    monkeypatch.setitem(sys.modules, module, made)
    exec(compile(code, module, "exec"), made.__dict__)

    class Point:
        @staticmethod
        def load():
            return getattr(made, function)

    Point.name = name

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point] if group == SPLITS.group else [])
    monkeypatch.setattr(SPLITS, "__dict__", plugins.Plugins(SPLITS.group, "split", SPLITS._plain).__dict__)
    sections = split("ANNA:\nHi.\nBOB:\nHo.\nANNA:\nBye.\n", name, {"most": 2})

    assert SPLITS.group in project
    assert [found.text for found in sections] == ["ANNA:\nHi.\nBOB:\nHo.\n", "ANNA:\nBye.\n"]
