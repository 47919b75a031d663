"""Jobs as their producers see them: checked, cut into parts, asked about, and jobs within jobs.

Imports queue, ledger, parallel, routing, documents, config, contract. Start with check_job.py, then planning.py.
"""
