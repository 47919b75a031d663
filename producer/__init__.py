"""Who asks: the client, the HTTP API, batches and schedules."""

from producer.client import AsyncProducer, JobNotFound, Producer
from tasks.contract.job import Job
from tasks.contract.result import Result

__all__ = ["AsyncProducer", "Job", "JobNotFound", "Producer", "Result"]
