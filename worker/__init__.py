"""The Celery application of the workers: ``celery -A worker worker -Q model.fast -c 8``.

The configuration is ``POINTSMAN_CONFIG``, Redis ``POINTSMAN_REDIS_URL``; `docs/reference/environment.md` lists all
variables. Imports `tasks`, whose ports it implements. Start with `application`, then `runtime`.
"""

from worker.application import app

__all__ = ["app"]
