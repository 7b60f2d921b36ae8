"""How far runs are: on a terminal, in a log, in a notebook, and for a whole cluster.

``show_progress()`` is all that a run needs.  What is shown is made of plain facts
by pure functions (``words``, ``cells``, ``stages``, ``table``); the shells around
them know when to draw, and on what.
"""

from sage_dask.progress.choosing import NoProgress, show_progress
from sage_dask.progress.lines import LineProgress
from sage_dask.progress.live import LiveProgress

__all__ = ["LineProgress", "LiveProgress", "NoProgress", "show_progress"]
