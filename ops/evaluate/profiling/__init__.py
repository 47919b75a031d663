"""Measured profiles and compared prompts: an evaluation set goes through the queues, its answers are graded.

In this order: `cases` (what is asked), `asking` (through the queues), `judging` (right or wrong), `measure` (scores),
`report` (for people). `prompts` compares versions of one route's prompt in the same way.
"""
