"""`concatenate`: the outputs one after the other."""

from __future__ import annotations

from pydantic import Field

from tasks.parallel.joins.registry import JoinOptions, joiner
from tasks.parallel.joins.work import Joined, Piece, Work, coverage, missing_note


class ConcatenateOptions(JoinOptions):
    """The `join_options` of `concatenate`."""

    #: Whether each output stands under its section's title.
    titles: bool = True
    #: The text between two sections.
    separator: str = Field(default="\n\n", max_length=1000)


@joiner(kinds=("sections",), options=ConcatenateOptions)
def concatenate(work: Work) -> Joined:
    """Put the outputs in index order, each under its title, with a note in the place of each missing section.

    The notes count from 1, as people do; `details` keep the index from 0. `confidence` is the share of the sections
    that are there.
    """
    options = work.options_as(ConcatenateOptions)
    pieces, missing = work.pieces, work.missing
    work.require_pieces()
    blocks = {piece.index: _add_title(piece) if options.titles else piece.output.strip("\n") for piece in pieces}
    blocks |= {one.index: missing_note(one) for one in missing}
    output = options.separator.join(blocks[index] for index in sorted(blocks))
    details = {
        "sections": len(pieces),
        **work.gaps(),
        "confidence": coverage(len(pieces), len(missing)),
    }
    return Joined(output, details)


def _add_title(piece: Piece) -> str:
    # Outer blank lines would add to those between the blocks; inner ones and indentation are the model's.
    body = piece.output.strip("\n")
    title = " ".join(piece.title.split())
    return f"## {title}\n\n{body}" if title else body
