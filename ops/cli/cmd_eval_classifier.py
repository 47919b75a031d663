"""`pointsman eval classifier`: fit the ML classifier on one file, score it on another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ops.cli.arguments import AsJson

if TYPE_CHECKING:
    from ops.evaluate.classifier import Score

__all__ = ["classifier"]

#: Characters of the longest bar of the curve.
BAR = 40


def classifier(
    *,
    train: Annotated[
        Path, typer.Option("--train", metavar="FILE", help='JSON lines of {"text", "label"}; label null: out of scope.')
    ],
    test: Annotated[Path, typer.Option("--test", metavar="FILE", help="The same, to score on.")],
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            metavar="none|embed|URL",
            help="What turns texts into vectors: nothing, the extra `embed`, or an OpenAI-compatible API.",
        ),
    ] = "none",
    folds: Annotated[
        int, typer.Option("--folds", min=0, max=20, help="Cross-validate on the train file, too, in so many parts.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """How well examples teach the ML classifier to find routes: fit on one file, score on another.

    Shares are of the test file. Accuracy is the share of texts in scope whose likeliest label is right; at a threshold,
    an answer below it is wrong in scope, and right out of scope. The classifier's own threshold is calibrated on the
    train file alone.

        pointsman eval classifier --train train.jsonl --test test.jsonl --encoder embed
    """
    import sys

    from ops.cli.render import note, print_json
    from ops.evaluate.classifier import cross_validate, evaluate
    from ops.evaluate.labelled import read_labelled
    from tasks.routing.classify.encoder import encoder_named

    used = encoder_named(encoder)
    trained, tested = read_labelled(train, field="train"), read_labelled(test, field="test", may_be_one_label=True)
    if not as_json and sys.stderr.isatty():
        note(f"fitting on {len(trained)} texts …")
    score = evaluate(trained, tested, used)
    found = score.as_json()
    if folds:
        found["cross_validation"] = cross_validate(trained, folds, used)
    if as_json:
        print_json(found)
    else:
        _show(score, found)


def _show(score: Score, found: dict[str, object]) -> None:
    from ops.cli.render import print_table

    def share(value: float | None) -> str:
        return "-" if value is None else f"{value:.1%}"

    rows = [
        ("texts in scope, out of scope", f"{score.in_scope}, {score.out_of_scope}"),
        ("labels", f"{score.labels}"),
        ("accuracy", share(score.accuracy)),
        (f"accuracy at the threshold {score.threshold:.2f}", share(score.accuracy_at_threshold)),
        ("out-of-scope recall there", share(score.oos_recall)),
        ("fit", f"{score.fit_s:.1f} s"),
        ("one classification, p50", f"{score.p50_ms:.2f} ms"),
    ]
    across = found.get("cross_validation")
    if isinstance(across, dict):
        spread = f"{across['accuracy_mean']:.1%} ± {across['accuracy_sd']:.1%}"
        rows.append((f"accuracy on train, {len(across['accuracy'])} folds", spread))
    print_table(("", "measured"), rows, right=("measured",))
    print()
    shown = [
        (f"{point.threshold:.2f}", share(point.accuracy), share(point.oos_recall), "█" * round(BAR * point.accuracy))
        for point in score.curve
        if round(point.threshold * 100) % 10 == 0
    ]
    print_table(("threshold", "accuracy", "oos recall", ""), shown, right=("threshold", "accuracy", "oos recall"))
