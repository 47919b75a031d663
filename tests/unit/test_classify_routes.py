"""Classification among some routes alone: those that a job names, such as a workflow's."""

from __future__ import annotations

import asyncio

import pytest

from tasks.contract.errors import BadInput, ConfigError
from tasks.contract.job import parse_job
from tasks.loading.load import parse
from tasks.routing.classify.build import build_cascade
from tasks.routing.classify.decision import Facts
from tasks.workflows.check_job import check_job
from worker.runtime import MOST_CHOICES, LazyCascades

CONFIG = parse("""\
models:
  fast: {provider: simulated}
routes:
  bread: {models: [fast], keywords: [bread], examples: [a loaf please, two rolls please, a loaf of rye]}
  milk: {models: [fast], keywords: [milk, bread and butter], examples: [a pint of cream, some butter, a yoghurt]}
  wine: {models: [fast], when: {age: {min: 18}}, examples: [a bottle of red, a glass of white, some champagne]}
  rest: {models: [fast]}
default_route: rest
""")


def job(**fields):
    return parse_job({"text": "bread", **fields})


class TestCascade:
    def test_classifier_finds_the_named_routes_alone(self):
        cascade = build_cascade(CONFIG, ("rest", "milk"))

        assert cascade.classify("bread, please").route == "rest"
        assert cascade.classify("milk, please").route == "milk"
        assert build_cascade(CONFIG).classify("bread, please").route == "bread"

    def test_first_rule_takes_unclaimed_texts(self):
        verdict = build_cascade(CONFIG, ("wine", "milk")).classify("xyzzy")

        assert (verdict.route, verdict.classifier) == ("wine", "default")

    def test_rules_on_metadata_are_those_of_these_routes(self):
        facts = Facts({"age": 40})

        assert build_cascade(CONFIG, ("rest", "wine")).classify("xyzzy", facts).route == "wine"
        assert build_cascade(CONFIG, ("rest", "milk")).classify("xyzzy", facts).route == "rest"

    def test_cache_holds_one_file_for_the_same_routes_in_any_order(self, tmp_path):
        build_cascade(CONFIG, ("bread", "milk"), cache=tmp_path)
        build_cascade(CONFIG, ("milk", "bread"), cache=tmp_path)

        assert len(list(tmp_path.glob("fitted-*.npz"))) == 1


class TestLazyCascades:
    @staticmethod
    def counting():
        fitted = []

        def fit(routes):
            fitted.append(routes)
            return build_cascade(CONFIG, routes)

        return LazyCascades(fit), fitted

    def test_choice_of_routes_is_fitted_once_in_any_order(self):
        cascades, fitted = self.counting()

        async def ask():
            await cascades()
            first = await cascades(("rest", "milk", "bread"))
            assert await cascades(("rest", "bread", "milk")) is first
            await cascades(("milk", "bread", "rest"))
            await cascades()

        asyncio.run(ask())

        assert fitted == [None, ("rest", "bread", "milk"), ("milk", "bread", "rest")]

    def test_concurrent_callers_share_one_fit(self):
        cascades, fitted = self.counting()

        async def ask():
            return await asyncio.gather(*(cascades(("rest", "milk")) for _ in range(5)))

        assert len(set(map(id, asyncio.run(ask())))) == 1
        assert fitted == [("rest", "milk")]

    def test_kept_choices_are_bounded_and_the_oldest_goes_first(self):
        made = []
        cascades = LazyCascades(lambda routes: made.append(routes) or routes)

        async def ask():
            for number in range(MOST_CHOICES + 1):
                await cascades((f"r{number}",))
            await cascades(("r1",))
            await cascades(("r0",))

        asyncio.run(ask())

        assert made.count(("r1",)) == 1
        assert made.count(("r0",)) == 2

    def test_choice_that_could_not_be_fitted_is_tried_again(self):
        tried = []

        def fit(routes):
            tried.append(routes)
            if len(tried) == 1:
                raise ConfigError("no encoder")
            return routes

        async def ask():
            cascades = LazyCascades(fit)
            with pytest.raises(ConfigError):
                await cascades(("milk",))
            return await cascades(("milk",))

        assert asyncio.run(ask()) == ("milk",)


class TestBorder:
    @pytest.mark.parametrize(
        ("fields", "problem"),
        [
            ({"routes": ["bread", "salt"]}, "routes[1]: 'salt' is not known; allowed: bread, milk, rest, wine"),
            ({"routes": ["bread"], "route": "milk"}, "routes: are for a job that is classified"),
            ({"routes": ["bread"], "model": "fast"}, "routes: are for a job that is classified"),
            ({"routes": ["wine", "rest"], "metadata": {"age": [1]}}, "metadata.age: "),
        ],
    )
    def test_error_names_field_and_remedy(self, fields, problem):
        with pytest.raises(BadInput) as caught:
            check_job(job(**fields), CONFIG)

        assert str(caught.value).startswith(problem)

    def test_metadata_that_no_rule_of_these_routes_reads_pass(self):
        check_job(job(routes=["bread", "rest"], metadata={"age": [1]}), CONFIG)
