"""Our strategies in a simulated fleet, event by event: no clock but its own, no process, no server.

What decides is the code that runs in production: the strategies, `tasks.routing.model_statistics`, and
`tasks.calling.retry` for what follows a failure. What stands in for Redis is written after its scripts: late
admission and waiting lists (`simulated_fleet`) after ``admission.lua``, the breaker after ``limiter.lua``.
"""
