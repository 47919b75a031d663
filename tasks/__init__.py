"""The work: a job's way, one Celery task a file, and below it the rooms that the steps are made of.

Read accept, route, fanout, call, join, finish_part in this order. This package imports nothing of ours but itself; its
rooms stand in one order, which pyproject.toml guards: loading, calling, workflows, queue, ledger, parallel, routing,
documents, config, contract.
"""
