"""Cut a document into sections that can be worked on at the same time: a split a module, each a pure function.

Where a split says no other, nothing is lost: the texts of all sections, one after the other and without what is
`repeated` in them, are the document, character for character.
"""

from tasks.parallel.split.elements import elements
from tasks.parallel.split.external import files, plan
from tasks.parallel.split.headings import headings
from tasks.parallel.split.numbered import numbered
from tasks.parallel.split.registry import (
    GROUP,
    Split,
    SplitOptions,
    SplitTraits,
    split,
    split_named,
    split_options,
    split_traits,
    splits,
    splitter,
)
from tasks.parallel.split.rows import rows
from tasks.parallel.split.section import Section, shorten
from tasks.parallel.split.tokens import tokens
from tasks.parallel.split.units import lines, pages, paragraphs, sentences

__all__ = [
    "GROUP",
    "Section",
    "Split",
    "SplitOptions",
    "SplitTraits",
    "elements",
    "files",
    "headings",
    "lines",
    "numbered",
    "pages",
    "paragraphs",
    "plan",
    "rows",
    "sentences",
    "shorten",
    "split",
    "split_named",
    "split_options",
    "split_traits",
    "splits",
    "splitter",
    "tokens",
]
