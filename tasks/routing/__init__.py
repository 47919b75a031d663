"""The three decisions of routing: the route, the candidates, the model. Pure.

Imports config and contract. Start with choose.py; classify/ finds the route, strategies/ prefers models.
"""
