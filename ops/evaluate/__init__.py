"""Evaluations that users and CI share: what `pointsman eval` runs."""
