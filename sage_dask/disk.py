"""What it takes for a change of a folder to outlive a loss of power."""

from __future__ import annotations

import errno
import os
from pathlib import Path

# Some network file systems keep folders without being asked, and do not know the request.
_NO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP}


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last: they are entries of the folder, not the file.

    Raises:
        OSError: The disk refused.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)
