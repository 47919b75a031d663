"""Cut a document into sections that can be worked on at the same time: a split a module, each a pure function.

Where a split says no other, nothing is lost: the texts of all sections, one after the other and without what is
`repeated` in them, are the document, character for character.
"""

from tasks.parallel.split.declare import Split, SplitOptions, SplitTraits, splitter, traits_of
from tasks.parallel.split.elements import elements
from tasks.parallel.split.files import files
from tasks.parallel.split.headings import headings
from tasks.parallel.split.lines import lines
from tasks.parallel.split.numbered import numbered
from tasks.parallel.split.pages import pages
from tasks.parallel.split.paragraphs import paragraphs
from tasks.parallel.split.plan import plan
from tasks.parallel.split.registry import GROUP, split, split_named, split_options, splits
from tasks.parallel.split.rows import rows
from tasks.parallel.split.section import Section, shorten
from tasks.parallel.split.sentences import sentences
from tasks.parallel.split.tokens import tokens

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
