"""How workers and the scheduler call what they tell each other of requests and of tasks."""

from __future__ import annotations

# Events of this topic are workers' reports, pickled.  Dask passes events on to plugins, and
# drops them where there is none; a message of our own would break the connection there.
REPORTS = "sage-dask-requests"

# Name of the message by which a worker is told its slots.  It is sent to workers that have
# reported, since it would break the connection of any other.
ALLOT = "sage-dask-allot"

# Events of this topic tell clients how full gates and servers are.
LOAD = "sage-dask-load"

# Annotation of a task that was placed: what it waited for, in seconds by the names in ``spent``,
# and why it is where it is.  Dask passes annotations on to the worker.
PLACED = "sage_placed"

# Name of the dispatcher's remote procedure on the scheduler.
HANDLER = "sage_dask"
