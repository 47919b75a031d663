"""Which route a text falls into: keywords (`rules`), examples, and the `cascade` that asks them in turn.

`build` makes the cascade of a configuration. Nothing is imported here: `examples` brings numpy, for routers alone.
"""
