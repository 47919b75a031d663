"""What providers say of their limits in headers, with real worker processes: no model is asked more than they allow."""

from __future__ import annotations

import time

import pytest

from tests import redis_keys
from tests.harness import DEADLINE, fleet, wait_for
from tests.recorder import Say, recorder

#: The provider's limit a minute, and the much higher one that is configured.
ALLOWED, CONFIGURED = 30, 6000
#: Seconds for which calls are watched.
STRETCH = 6.0
#: Another provider's: so many in each window of so many seconds. It doesn't say what its limit is.
A_WINDOW, WINDOW = 10, 4.0


#: Seconds until a provider that refuses has room again, as its headers say; it sends no Retry-After.
REFILL = 3


def refusing(asked: int) -> Say:
    headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": f"{REFILL}s"}
    return Say(status=429, headers=headers) if asked < 2 else Say(delay=0.02)


class Windows:
    """Counts who comes in each window, and says in headers how many more may, and until when."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._ends = 0.0

    def __call__(self, _asked: int) -> Say:
        now = time.monotonic()
        if now >= self._ends:
            self._ends = now + WINDOW
            self.came.append(0)
        self.came[-1] += 1
        left = max(0, A_WINDOW - self.came[-1])
        headers = {
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{self._ends - now:.3f}s",
        }
        return Say(delay=0.05, headers=headers)


@pytest.fixture(scope="module")
def windows():
    return Windows()


@pytest.fixture(scope="module")
def running(tmp_path_factory, windows):
    simulations = {"even": {"latency": 0.05, "rpm": ALLOWED}}
    with recorder({"window": windows, "curt": refusing}) as recording:
        models = {
            "even": {"capacity": 8, "rpm": CONFIGURED},
            "window": {"capacity": 4, "base_url": recording.url},
            "curt": {"capacity": 2, "base_url": recording.url},
        }
        queues = ",".join(f"model.{name}" for name in models)
        folder = tmp_path_factory.mktemp("fleet")
        with fleet(folder, models=models, simulations=simulations) as running:
            running.start_all([("route,join", 4), (queues, 12), (queues, 12)])
            running.recording = recording
            yield running


def test_lower_limit_in_headers_is_kept_by_all_processes(running):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "even"} for number in range(80)])
    wait_for(lambda: running.stats("even")["requests"] >= 8, "the first calls")
    began, asked = time.monotonic(), running.stats("even")["requests"]

    # One each 2.07 s from now on; what was configured would let all of them through at once.
    wait_for(lambda: time.monotonic() > began + STRETCH, "the stretch")
    wait_for(lambda: running.stats("even")["requests"] >= asked + 2, "more calls")
    took, stats = time.monotonic() - began, running.stats("even")
    for job in jobs:
        running.producer.cancel(job.id)

    assert stats["errors"] == 0
    # As many as were in flight before the first answer, then at the provider's pace.
    assert stats["requests"] <= 2 * 8 + 2 + took * ALLOWED / 60
    shown = running.redis.hgetall(redis_keys.limiter("even"))
    assert int(shown["said_r"]) == ALLOWED


def test_requests_left_of_a_window_bound_all_processes_together(running, windows):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "window"} for number in range(30)])
    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
    assert {result.state for result in results} == {"succeeded"}
    # Waiting for the next window is no attempt.
    assert {result.parts[0].attempts for result in results} == {1}
    # A call may overtake another on its way: the answer to the one can't tell of the other, which is one too many then.
    assert max(windows.came) <= A_WINDOW + 1
    assert len(windows.came) <= 6


def test_429_without_retry_after_pauses_the_model_by_its_headers(running):
    jobs = running.producer.submit_many([{"text": f"{number}", "model": "curt"} for number in range(6)])
    results = [running.producer.wait(job.id, timeout=DEADLINE) for job in jobs]
    assert {result.state for result in results} == {"succeeded"}
    times = running.recording.of["curt"].times
    assert [at for at in times[2:] if at < times[0] + REFILL] == []
