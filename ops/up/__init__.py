"""`pointsman up`: the processes of one machine, started, watched and ended together.

May import everything but `ops.cli`. Start reading at `stack.py`, the order of start and stop; `launcher.py` holds the
commands of the processes, `processes.py` keeps one alive, and scales the workers of one model.
"""
