"""Submits jobs: the Python client, the HTTP API and the schedules. Imports `tasks` alone; start with `client`."""

from producer.client import AsyncProducer, JobNotFound, Producer
from tasks.contract.job import Job
from tasks.contract.result import Result

__all__ = ["AsyncProducer", "Job", "JobNotFound", "Producer", "Result"]
