"""Named places where a test can have the process die, as if it were killed there.

``SAGE_DASK_FAILPOINT=commit:3`` ends the process the third time that it reaches
``commit``, with the exit code of a SIGKILL.  Unset, as it is outside of tests, a
place costs one comparison.
"""

from __future__ import annotations

import os

VARIABLE = "SAGE_DASK_FAILPOINT"

# What a shell reports of a process that was killed.
_KILLED = 137

_name, _, _hit = os.environ.get(VARIABLE, "").partition(":")
_left = int(_hit or 1)


def reach(name: str) -> None:
    """End the process if this is where it is to die."""
    global _left
    if name != _name:
        return
    _left -= 1
    if not _left:
        os._exit(_KILLED)
