"""The first lines of a subprocess, run as a script: ``bootstrap.py DESCRIPTOR PARENT``.

Binds the life of this process to its parent's, then finds modules where the parent
finds them.  Imports nothing of sage_dask before that.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import os
import pickle
import signal
import sys
from multiprocessing.connection import Connection

# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1


def main(descriptor: int, parent: int) -> None:
    """Serve the parent until it has no more work, or is gone."""
    _die_with(parent)
    # Says on stderr in which line a segmentation fault happened.
    faulthandler.enable()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a record printed must not be lost when it is killed.
        sys.stdout.reconfigure(line_buffering=True)
    with Connection(descriptor) as connection:
        sys.path[:] = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our own parent
        from sage_dask.isolation.serving import serve

        serve(connection)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process as soon as its parent is gone.

    Waiting for the end of the pipe would not do: work that holds the interpreter's lock keeps
    every other thread from noticing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It was gone before the line above.
        os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
