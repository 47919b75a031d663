"""What is made of the rounds of a benchmark."""

import pytest

from ops.bench.report import Figure, Report, Round
from ops.bench.rounds import Size
from ops.bench.suite import sized, summary


def a_round(cpu: float, *, calls: int = 10) -> Round:
    return Round(calls=calls, answered=calls, wall_s=2.0, cpu_ms={"worker": cpu, "valkey": 1.0})


def a_report(**rounds: list[Round]) -> Report:
    return Report("calls", "a call", {"rounds": 3}, dict.fromkeys(rounds, "as it is"), rounds, machine={"cores": 2})


def worker(one: Round) -> float:
    return one.cpu_ms["worker"]


def test_ratio_is_the_median_of_the_ratios_of_each_round():
    report = a_report(peer=[a_round(10), a_round(40), a_round(12)], ours=[a_round(2), a_round(8), a_round(4)])
    figure = report.ratio("peer over ours", "peer", "ours", worker, must=4, goal=6)
    assert list(figure.rounds) == [5.0, 5.0, 3.0]
    assert figure.value == 5.0
    assert figure.verdict == "must"


def test_cpu_below_one_kernel_step_counts_as_one_step():
    report = a_report(peer=[a_round(5)], ours=[a_round(0)])
    assert report.ratio("peer over ours", "peer", "ours", worker).value == 5.0  # 10 ms over 10 calls: 1 ms a call


@pytest.mark.parametrize(
    ("value", "higher", "verdict"),
    [(7, True, "goal"), (5, True, "must"), (4.9, True, "missed"), (7, False, "missed"), (5, False, "must")],
)
def test_figure_says_what_it_reaches(value, higher, verdict):
    goal = 7 if higher else 3
    assert Figure("x", value, must=5, goal=goal, higher=higher).verdict == verdict


def test_figure_without_a_bound_has_no_verdict():
    assert Figure("x", 1.0).verdict == ""


def test_medians_and_totals_stand_in_the_document():
    document = a_report(ours=[a_round(1), a_round(5), a_round(3)]).as_json()
    median = document["contestants"]["ours"]["median"]
    assert median["cpu_ms"] == {"worker": 3, "valkey": 1.0}
    assert median["cpu_ms_total"] == 4.0
    assert median["per_s"] == 5.0


def test_summary_names_each_figure_with_its_bounds():
    report = a_report(ours=[a_round(1)])
    report.figures = [Figure("lag", 12.5, unit="ms", must=50, higher=False)]
    assert "| calls | lag | ≤ 50 |  | 12.50 ms | must |" in summary([report]).splitlines()


def test_options_override_the_size():
    size = Size(calls=100, rounds=5, levels=(4, 100), latency=0.2)
    assert sized(size) == size
    assert sized(size, calls=7, levels=[9]) == Size(calls=7, rounds=5, levels=(9,), latency=0.2)
