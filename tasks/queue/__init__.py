"""The way to the broker: Celery's configuration, the transport, the publisher, and the lists that messages wait in.

Imports `ledger`, `config` and `contract`. Start with `publisher` (how messages are sent) and `channel` (how workers
reserve and acknowledge them).
"""
