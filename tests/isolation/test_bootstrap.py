"""The first lines of a subprocess: its life is its parent's."""

from __future__ import annotations

import subprocess
import sys
from multiprocessing.connection import Pipe

from sage_dask.isolation import bootstrap


def test_it_ends_at_once_if_its_parent_is_gone_already():
    """A process that starts as another's child than it was told has nobody to work for."""
    ours, theirs = Pipe()
    not_the_parent = 1

    done = subprocess.run(
        [sys.executable, "-P", bootstrap.__file__, str(theirs.fileno()), str(not_the_parent)],
        pass_fds=[theirs.fileno()],
        timeout=60,
    )

    assert done.returncode == 1
    ours.close()
    theirs.close()
