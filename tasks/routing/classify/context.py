"""Contextual rules: metadata, length and time to routes. A rule holds when all its conditions do.

What a condition may be stands in `tasks.routing.classify.condition`; in the configuration a rule is a route's ``when``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from tasks.config.config import Config
from tasks.config.routes import Route
from tasks.contract.errors import BadInput
from tasks.contract.tokens import estimate
from tasks.routing.classify.condition import METADATA, Condition, kind_of, plain, read_condition, read_fact
from tasks.routing.classify.decision import Abstention, Facts, Verdict

#: Choices of routes whose rules are kept: a producer may name any.
MOST_CHOICES = 64


@dataclass(frozen=True, slots=True)
class Rule:
    """A route and the conditions under which it is taken, all of which must hold."""

    route: str
    conditions: frozenset[Condition]

    def __str__(self) -> str:
        return ", ".join(sorted(condition.text for condition in self.conditions))


def read_rule(route: str, when: Mapping[str, Any]) -> Rule:
    """Read one rule of `route`.

    Raises:
        ValueError: naming the condition, and what it may be.
    """
    found = []
    for name, value in when.items():
        try:
            found.append(read_condition(name, value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return Rule(route, frozenset(found))


class ContextRules:
    """The rules of all routes. Of those that hold the one with the most conditions decides.

    Its confidence is 1: nothing is guessed. Where rules of several routes hold with equally many conditions, it
    abstains.
    """

    name = "context"
    slow = False

    def __init__(self, rules: Iterable[Rule], *, timezone: tzinfo = UTC) -> None:
        self.rules = tuple(rules)
        self._timezone = timezone
        self._names = frozenset(condition.name for rule in self.rules for condition in rule.conditions)

    def judge(self, text: str, facts: Facts) -> Verdict | Abstention:
        """The route whose rule holds, or why none decides. Never raises, whatever the metadata holds."""
        length = estimate(text) if "length" in self._names else None
        now = facts.at.astimezone(self._timezone)
        known = {name: read_fact(name, metadata=facts.metadata, length=length, now=now) for name in self._names}
        holding = [
            rule for rule in self.rules if all(condition.holds(known[condition.name]) for condition in rule.conditions)
        ]
        if not holding:
            strange = "; ".join(
                f"{METADATA}{name} is {kind_of(value)}" for name, value in self._strange(facts.metadata)
            )
            return Abstention(self.name, f"no rule holds{'; ' + strange if strange else ''}")
        most = max(len(rule.conditions) for rule in holding)
        leaders = {rule.route: rule for rule in holding if len(rule.conditions) == most}
        if len(leaders) > 1:
            plural = "s" if most > 1 else ""
            return Abstention(
                self.name, f"rules of {' and '.join(sorted(leaders))} hold, {most} condition{plural} each"
            )
        ((route, rule),) = leaders.items()
        return Verdict(route, self.name, 1.0, str(rule))

    def check(self, metadata: Mapping[str, Any], *, at: str = "") -> None:
        """Refuse metadata that the rules can't compare: a list or a mapping, or text where they have numbers.

        An entry that is missing or null is no mistake: rules that read it do not hold.

        Raises:
            BadInput: with the field below `at`, the routes whose rules read it, and what they expect.
        """
        for name, value in self._strange(metadata):
            kinds, routes = self._expected[name]
            raise BadInput(
                f"{at}metadata.{name}",
                f"is {kind_of(value)}",
                f"rules of {', '.join(sorted(routes))} compare it with {' or '.join(sorted(kinds))}: send one",
            )

    def _strange(self, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        for name, (kinds, _) in self._expected.items():
            value = metadata.get(name)
            if value is not None and ((known := plain(value)) is None or known[0] not in kinds):
                yield name, value

    @cached_property
    def _expected(self) -> Mapping[str, tuple[set[str], set[str]]]:
        """By metadata entry: what its value may be, and the routes that ask for it."""
        expected: dict[str, tuple[set[str], set[str]]] = {}
        for rule in self.rules:
            for condition in rule.conditions:
                if (entry := condition.entry) is not None:
                    kinds, routes = expected.setdefault(entry, (set(), set()))
                    kinds |= condition.kinds
                    routes.add(rule.route)
        return expected


def context_rules(config: Config, routes: tuple[str, ...] | None = None) -> ContextRules:
    """The contextual rules of all routes that every job may fall into, or of `routes` alone.

    There are none where the classifier's order leaves them out. They are read once; of choices of routes, those that
    were used last are kept.
    """

    def read(known: Mapping[str, Route]) -> ContextRules:
        used = known.items() if "context" in config.classifier.order else ()
        rules = [read_rule(name, when) for name, route in used for when in route.when]
        return ContextRules(rules, timezone=ZoneInfo(config.classifier.timezone))

    def read_choice(names: tuple[str, ...]) -> ContextRules:
        return read({name: config.all_routes[name] for name in names})

    if routes is None:
        return config.derived("context_rules", lambda: read(config.routes))
    return config.derived("context_rules of choices", lambda: lru_cache(MOST_CHOICES)(read_choice))(routes)
