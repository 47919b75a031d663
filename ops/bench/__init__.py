"""Benchmarks of what things cost, beside peers in the same run; not part of the wheel.

Imports all rooms of ops but cli. Start with suite.py, then job.py.
"""
