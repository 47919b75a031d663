def stock_url(url: str) -> str:
    """The address of a Redis as Celery's own transport and results write it."""
    return "redis+socket://" + url.removeprefix("unix://") if url.startswith("unix://") else url
