"""Servers for one machine: the broker (Valkey), simulated models, and a small real model.

May import `tasks` alone. Start reading at `valkey.py`, the broker, or `simulated.py`, the models of tests and examples.
"""
