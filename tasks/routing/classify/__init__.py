"""Finds the route of a text. Start with `cascade`, which asks context, rules, examples and a model one by one.

`build` makes the cascade of a configuration. Nothing is imported here: `examples` brings numpy, for routers alone.
"""
