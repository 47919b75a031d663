"""Cut a document into sections that can be worked on at the same time: a split a module, each a pure function.

Where a split says no other, nothing is lost: the texts of all sections, one after the other and without what is
`repeated` in them, are the document, character for character.
"""

from tasks.split.declare import Split, SplitOptions, SplitTraits, splitter, traits_of
from tasks.split.elements import elements
from tasks.split.files import files
from tasks.split.headings import headings
from tasks.split.lines import lines
from tasks.split.numbered import numbered
from tasks.split.pages import pages
from tasks.split.paragraphs import paragraphs
from tasks.split.plan import plan
from tasks.split.registry import GROUP, split, split_named, split_options, splits
from tasks.split.rows import rows
from tasks.split.section import Section, shorten
from tasks.split.sentences import sentences
from tasks.split.tokens import tokens

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
    "splits",
    "splitter",
    "tokens",
    "traits_of",
]
