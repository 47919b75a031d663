"""What crosses a border: jobs, results, errors, answers, what a provider is asked and replies.

Imports nothing of ours. Start with job.py, then result.py.
"""
