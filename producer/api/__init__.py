"""The HTTP API: one resource a file (`job_routes`, `console`), keys in `auth`, errors in `problems`.

`server` puts them together, and is the process.
"""

from producer.api.auth import RequestGuard
from producer.api.problems import ProblemDetails, problem_of
from producer.api.server import create_app, serve

__all__ = [
    "RequestGuard",
    "ProblemDetails",
    "create_app",
    "problem_of",
    "serve",
]
