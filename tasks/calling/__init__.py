"""What step 4, `tasks.call`, is made of.

run: one claimed execution of a part, from the claim to the part's end or its next try. attempt: one HTTP request to a
model, built, sent and settled. hedge: a second one that races it. retry: what follows a failed one, as a pure decision.
Imports workflows and the rooms below it; start with run.py.
"""
