"""The HTTP API: jobs, their events, a page for people, and errors that clients understand."""

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
