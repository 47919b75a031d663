"""The queues: Celery's configuration, where the broker is, publishing, peeking. The lowest floor, with the ledger."""
