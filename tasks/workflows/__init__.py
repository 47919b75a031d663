"""What the steps share: the check of a job, the plan of its parts, votes, child jobs, and the question for a route.

Imports queue, ledger, parallel, routing, documents, config, contract. Start with check_job.py, then planning.py.
"""
