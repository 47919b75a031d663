"""The HTTP API: one resource a file (`job_routes`, `event_routes`, `console`), keys in `auth`, errors in `problems`.

`asgi` puts them together, `server` is the process.
"""

from producer.api.asgi import create_app
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
