"""What step 4 is made of. `tasks.call` is the story; here is who tries what again, what it asks, takes and costs.

turn: one claim of a part, its attempts and what is told of them. attempt: take, ask, report. hedge: a second call that
races a slow first. retry: what follows a failure, as a pure decision. request, tokens, cost: pure, too.
"""
