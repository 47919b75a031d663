"""What one simulation noted, and the figures that follow from it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: By name: the percentile of the time from a request to its answer.
PERCENTILES: Mapping[str, float] = {"p50_s": 50, "p95_s": 95, "p99_s": 99, "p999_s": 99.9}
#: Shares of the requests whose quantiles are kept for plots: even steps, and finer ones towards the tail.
SHARES = tuple(float(1 - 10 ** (-place / 20)) for place in range(81))
#: Attempts after which a model could be known: those that come later are counted apart.
FIRST = 10
#: Seconds over which a model's share is looked at, to find when it has it, and the part of its even share that counts.
SHARE_WINDOW_S, SHARE_ENOUGH = 5, 0.5
#: Models whose shares are reported one by one; of more, those with the largest.
TOLD = 24


@dataclass(slots=True)
class Record:
    """`names` are the models; `route_of` names the route of each."""

    names: Sequence[str]
    route_of: Sequence[int]
    #: Seconds from the request to its answer, of all that succeeded.
    latencies: array[float] = field(default_factory=lambda: array("d"))
    failed: int = 0
    #: Attempts by second and model.
    attempts: list[array[int]] = field(default_factory=list)
    #: Attempts of the whole route when a model had its `FIRST`.
    _at_first: dict[int, int] = field(default_factory=dict)
    _by_model: list[int] = field(default_factory=list)
    _by_route: list[int] = field(default_factory=list)
    #: Largest number of calls at one model over the mean of its route, at moments that are looked at.
    crests: array[float] = field(default_factory=lambda: array("d"))
    #: Requests with a key whose last request went to the same model, and to another.
    kept: int = 0
    moved: int = 0
    ended: float = 0.0

    def __post_init__(self) -> None:
        self._by_model = [0] * len(self.names)
        self._by_route = [0] * (max(self.route_of) + 1)

    def attempt(self, now: float, place: int) -> None:
        second = int(now)
        while len(self.attempts) <= second:
            self.attempts.append(array("l", bytes(array("l").itemsize * len(self.names))))
        self.attempts[second][place] += 1
        route = self.route_of[place]
        self._by_model[place] += 1
        self._by_route[route] += 1
        if self._by_model[place] == FIRST:
            self._at_first[place] = self._by_route[route]

    def figures(self, changed: tuple[int, float] | None = None) -> dict[str, Any]:
        """`changed`: a model, and the moment from which it is as good as any: how soon it has its share is measured.

        ``herding`` is the largest share that one model has of a second's attempts, over its even share; ``crest`` the
        load of the busiest model over the mean, whenever there are as many calls as models; ``same_model`` how many
        requests with a key went where the last of their key went.
        """
        latencies = np.frombuffer(self.latencies, dtype=np.float64) if self.latencies else np.zeros(0)
        total = sum(self._by_model)
        found: dict[str, Any] = {
            name: float(np.percentile(latencies, share)) if latencies.size else None
            for name, share in PERCENTILES.items()
        }
        ended = latencies.size + self.failed
        shares = {name: count / total for name, count in zip(self.names, self._by_model, strict=True)}
        late = {name: self._late(place) for place, name in enumerate(self.names)}
        found |= {
            "quantiles_s": np.quantile(latencies, SHARES).tolist() if latencies.size else None,
            "mean_s": float(latencies.mean()) if latencies.size else None,
            "over_1s": float((latencies > 1.0).sum()) / ended,
            "failed": self.failed,
            "requests": int(ended),
            "attempts": total,
            "per_s": ended / self.ended if self.ended else 0.0,
            "max_share": max(shares.values()),
            "herding": self._herding(),
            "crest": float(np.mean(self.crests)) if self.crests else None,
            "share_of_attempts": _told(shares),
            "share_after_first_10": _told(late),
        }
        if self.kept + self.moved:
            found["same_model"] = self.kept / (self.kept + self.moved)
        if changed is not None:
            found["share_after_s"] = self._share_after(*changed)
        return found

    def _late(self, place: int) -> float:
        """A model's share of its route's attempts after its first ten; 0 where it had no more."""
        at = self._at_first.get(place)
        if at is None:
            return 0.0
        rest = self._by_route[self.route_of[place]] - at
        return (self._by_model[place] - FIRST) / rest if rest else 0.0

    def _herding(self) -> float:
        """The largest share that one model has of a second's attempts, mean over the seconds, over its even share."""
        counts = np.array(self.attempts, dtype=np.float64)
        routes = np.array(self.route_of)
        found = []
        for route in range(min(len(self._by_route), TOLD)):
            mine = counts[:, routes == route]
            all_ = mine.sum(axis=1)
            busy = all_ > 0
            if busy.any():
                found.append(float((mine.max(axis=1)[busy] / all_[busy]).mean() * mine.shape[1]))
        return float(np.mean(found)) if found else 0.0

    def _share_after(self, place: int, since: float) -> float | None:
        """Seconds from `since` until a model has half its even share over five seconds; None where it never has."""
        routes = [at for at, route in enumerate(self.route_of) if route == self.route_of[place]]
        for second in range(int(since), len(self.attempts) - SHARE_WINDOW_S + 1):
            window = self.attempts[second : second + SHARE_WINDOW_S]
            total = sum([counts[at] for counts in window for at in routes])
            if total and sum([counts[place] for counts in window]) >= SHARE_ENOUGH * total / len(routes):
                return max(0.0, second - since)
        return None


def _told(shares: Mapping[str, float]) -> dict[str, float]:
    most = sorted(shares, key=shares.__getitem__, reverse=True)[:TOLD]
    return {name: share for name, share in shares.items() if name in set(most)}
