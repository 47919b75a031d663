"""Who asks: the client, the HTTP API, batches and schedules."""

from producer.client import AsyncProducer, JobNotFound, Producer
from tasks.job import Job, Result

__all__ = ["AsyncProducer", "Job", "JobNotFound", "Producer", "Result"]
