"""Splits: pure functions that cut a document into sections for parallel work.

Unless its docstring says otherwise, a split loses nothing: the texts of all sections, one after the other and without
their `repeated` beginnings, are the document, character for character.

The modules are the splits (`units` holds `lines`, `sentences`, `paragraphs` and `pages`; `external` holds `files` and
`plan`) and what they share: `section` (a section and lossless cuts) and `registry` (declaration and lookup).
"""

from tasks.parallel.split.registry import SPLITS, Split, SplitOptions, SplitTraits, split, splitter
from tasks.parallel.split.section import Section

__all__ = [
    "SPLITS",
    "Section",
    "Split",
    "SplitOptions",
    "SplitTraits",
    "split",
    "splitter",
]
