"""Which model is good enough for a text, learned from outcomes: texts whose answers were graded, for every model.

Start with `predictor`, which is fitted to `outcomes` and predicts how likely each model answers a new text well;
`choice` takes the cheapest model that is good enough. Nothing is imported here: all of it needs numpy.
"""
