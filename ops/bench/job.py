"""What a job costs: CPU by process from submit to result, through all real parts, on a simulated model.

``python -m ops.bench.job --jobs 2000`` prints a table and, with ``--json``, one JSON document. Flower and the HTTP API
are not among the processes; task events are on, as in production. Needs the extra ``bench``.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import yaml

from ops.stack import Options, Stack
from producer import Producer

__all__ = ["main", "measure"]

#: Jobs that are sent before the measurement: connections, caches and classifiers are warm then.
WARM_UP = 200


def measure(jobs: int, *, latency: float, capacity: int) -> dict[str, Any]:
    """Run `jobs` single jobs against a model that answers after `latency` seconds, `capacity` of them at once."""
    simulated = {"provider": "simulated", "capacity": capacity, "simulation": {"latency": latency}}
    config = {
        "models": {"model": simulated},
        "routes": {"work": {"keywords": ["work"], "models": ["model"]}, "rest": {"models": ["model"]}},
        "default_route": "rest",
    }
    with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as folder:
        file = Path(folder, "pointsman.yaml")
        file.write_text(yaml.safe_dump(config))
        stack = Stack(Options(config=file, state_dir=Path(folder, "state"), port=None, flower_port=None))
        with stack, Producer(stack.config, redis=stack.redis) as producer:
            _run(producer, WARM_UP)
            processes = _processes(stack)
            before = {name: _cpu(process) for name, process in processes.items()}
            started = time.monotonic()
            _run(producer, jobs)
            wall = time.monotonic() - started
            spent = {name: _cpu(process) - before[name] for name, process in processes.items()}
            memory = {name: process.memory_info().rss for name, process in processes.items()}
    return {
        "jobs": jobs,
        "latency_s": latency,
        "capacity": capacity,
        "jobs_per_s": round(jobs / wall, 1),
        "cpu_ms_per_job": {name: round(1000 * seconds / jobs, 3) for name, seconds in spent.items()},
        "cpu_ms_per_job_total": round(1000 * sum(spent.values()) / jobs, 3),
        "rss_mb": {name: round(size / 1e6, 1) for name, size in memory.items()},
        "versions": {name: version(name) for name in ("celery", "kombu", "redis")}
        | {"python": platform.python_version()},
    }


def _run(producer: Producer, jobs: int) -> None:
    ids: list[str] = []
    for start in range(0, jobs, 100):
        chunk = [{"text": f"some work, number {number}"} for number in range(start, min(start + 100, jobs))]
        ids += [job.id for job in producer.submit_many(chunk)]
    # In the order of submission, so that nearly all have ended when the first few have.
    for job in ids:
        result = producer.wait(job, timeout=600)
        if result.state != "succeeded":
            raise RuntimeError(f"job {job} is {result.state}: {result.error}")


def _processes(stack: Stack) -> dict[str, psutil.Process]:
    pids = {child.name: child.pid for child in stack.children if child.name not in {"simulated", "local"}}
    pids["broker"] = stack.broker_pid
    found = {name: psutil.Process(pid) for name, pid in pids.items() if pid is not None}
    return found | {"producer": psutil.Process()}


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ops.bench.job", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds a call takes (default: %(default)s)")
    parser.add_argument("--capacity", type=int, default=100, help="calls in flight (default: %(default)s)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    found = measure(options.jobs, latency=options.latency, capacity=options.capacity)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{found['jobs']} jobs, {found['jobs_per_s']:g} a second; CPU a job:")
    for name, milliseconds in found["cpu_ms_per_job"].items():
        print(f"  {name:12} {milliseconds:6.2f} ms  {found['rss_mb'][name]:6.1f} MB")
    print(f"  {'all':12} {found['cpu_ms_per_job_total']:6.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
