"""The HTTP API: one resource a file (`jobs`, `events`, `console`), keys in `auth`, errors in `problems`.

`app` puts them together, `server` is the process.
"""

from producer.api.app import create_app
from producer.api.auth import RequestGuard
from producer.api.problems import ProblemDetails, Refused, problem_of
from producer.api.server import serve

__all__ = [
    "RequestGuard",
    "ProblemDetails",
    "Refused",
    "create_app",
    "problem_of",
    "serve",
]
