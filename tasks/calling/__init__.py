"""What step 4, `tasks.call`, is made of.

run: one claimed execution of a part, from the claim to the part's end or its next try. attempt: one HTTP request to a
model. request: what the model is asked. retry: what follows a failed attempt, as a pure decision.
"""
