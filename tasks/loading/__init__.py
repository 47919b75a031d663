"""Read `pointsman.yaml` and its files, locate each problem by file and line, and check it against everything else.

Sees all rooms; no other room imports it. Start with load.py.
"""
