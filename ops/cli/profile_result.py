"""The output of `pointsman profile`: tables on stdout, remarks on stderr."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ops.evaluate.profiling.judging import Grading
    from tasks.config.config import Config
    from tasks.config.profiles import ModelProfile, ProfileFile, Share

__all__ = ["print_profiles", "print_remarks"]


def print_profiles(
    measured: Mapping[str, ModelProfile],
    target: Path,
    grading: Grading,
    *,
    as_json: bool,
    run: str,
) -> None:
    from ops.cli.render import note, print_json, print_table

    if as_json:
        print_json(
            {
                "run": run,
                "out": str(target),
                "judge": {"calls": grading.judge_calls, "cost_usd": grading.judge_cost_usd},
                "models": {name: profile.model_dump(mode="json") for name, profile in measured.items()},
            }
        )
        return
    head = ("model", "speed", "accuracy", "creativity", "ethics", "cost", "p50", "p95", "$/1000", "ungraded")
    print_table(head, [(name, *_row(profile)) for name, profile in measured.items()], whole=("model",), right=head[1:])
    if any(profile.routes for profile in measured.values()):
        print()
        routes = sorted({route for profile in measured.values() for route in profile.routes})
        rows = [(route, *(_share(profile.routes.get(route)) for profile in measured.values())) for route in routes]
        print_table(("accuracy on route", *measured), rows, whole=("accuracy on route",), right=tuple(measured))
    if grading.judge_calls:
        note(f"the judge was asked {grading.judge_calls} times, for ${grading.judge_cost_usd:.6f}")


def _row(profile: ModelProfile) -> tuple[str, ...]:
    from ops.cli.render import seconds

    scores, latency, cost = profile.scores, profile.latency, profile.cost
    return (
        _score(scores.speed),
        _share(profile.accuracy),
        _score(scores.creativity),
        _share(profile.ethics),
        _score(scores.cost),
        seconds(latency.p50_s if latency else None),
        seconds(latency.p95_s if latency else None),
        f"{1000 * cost.mean_usd:.4g}" if cost else "-",
        str(sum(profile.ungraded.values())),
    )


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _share(share: Share | None) -> str:
    return "-" if share is None else f"{share.score:.0f} ({share.low:.0f}–{share.high:.0f})"


def print_remarks(
    measured: Mapping[str, ModelProfile],
    written: ProfileFile,
    config: Config,
    *,
    judge: str | None,
    target: Path,
    report: Path | None,
) -> None:
    """Print remarks on the figures on stderr."""
    from ops.cli.render import note
    from tasks.config.profiles import METRICS

    for name, profile in measured.items():
        if profile.ungraded:
            reasons = ", ".join(f"{count} {code}" for code, count in profile.ungraded.items())
            note(f"{name}: not graded, and not counted: {reasons}")
        typed = [metric for metric in METRICS if getattr(config.models[name].profile, metric, None) is not None]
        if typed:
            note(f"{name}: the configuration sets {', '.join(typed)}, which take precedence over the measured scores")
    if judge in measured:
        note(f"{judge} judged itself among others; judges favour their own answers")
    if any(profile.simulated for profile in measured.values()):
        note("simulated models answered: their profiles prove nothing")
    if len({profile.eval.sha256 for profile in written.models.values()}) > 1:
        note(f"{target} holds models that were measured with different evaluation sets; do not compare these")
    note(f"written: {target}" + (f", {report / 'index.html'}" if report else ""))
    if config.profiles is None or (config.folder / config.profiles).resolve() != target.resolve():
        place, folder = target.resolve(), config.folder.resolve()
        named = place.relative_to(folder) if place.is_relative_to(folder) else place
        note(f"  routing reads it with `profiles: {named}` in the configuration, after a restart")
