"""Evaluations that users and CI share: what `pointsman eval` and `pointsman profile` run.

Imports tasks and producer. Start with profiling/, or with cost_quality/ and simulation/, which ask no model.
"""
