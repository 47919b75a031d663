"""The values that cross a border: jobs, results, errors, answers, requests to providers and their replies.

Imports nothing of ours. Start with job.py, then result.py.
"""
