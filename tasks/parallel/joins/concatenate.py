"""The outputs one after the other."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from tasks.contract.errors import JoinError
from tasks.parallel.joins.registry import joiner
from tasks.parallel.joins.work import Joined, Piece, Work, coverage, gap, listed

__all__ = ["ConcatenateOptions", "concatenate"]


class ConcatenateOptions(BaseModel):
    """What `join_options` may say to `concatenate`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Whether each output stands under its section's title.
    titles: bool = True
    #: What stands between two sections.
    separator: str = Field(default="\n\n", max_length=1000)


@joiner(kinds=("sections",), options=ConcatenateOptions)
def concatenate(work: Work) -> Joined:
    """Put the outputs in index order, each under its title; what is missing is named in its place.

    People count from 1, so the answer does; `details` keep the index from 0. `confidence` is the share of the sections
    that are there.
    """
    options = work.options if isinstance(work.options, ConcatenateOptions) else ConcatenateOptions()
    pieces, missing = work.pieces, work.missing
    if not pieces:
        raise JoinError(f"none of the {len(missing)} sections has an output")
    blocks = {piece.index: _titled(piece) if options.titles else piece.output.strip("\n") for piece in pieces}
    blocks |= {one.index: gap(one) for one in missing}
    output = options.separator.join(blocks[index] for index in sorted(blocks))
    details = {
        "sections": len(pieces),
        "missing": listed(missing),
        "confidence": coverage(len(pieces), len(missing)),
    }
    return Joined(output, details)


def _titled(piece: Piece) -> str:
    # Outer blank lines would add up with the ones between the blocks; inner ones and indentation are the model's.
    body = piece.output.strip("\n")
    title = " ".join(piece.title.split())
    return f"## {title}\n\n{body}" if title else body
