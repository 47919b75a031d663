"""Which model is good enough for a text, learned from outcomes: texts whose answers were graded, for every model.

`outcomes` reads them, `predictor` is fitted to them and says how likely each model answers a new text well (`cache`
keeps it), `choice` takes the cheapest that is good enough, and `curve` says what that saves. Nothing is imported here:
it all brings numpy.
"""
