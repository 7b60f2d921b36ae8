"""Puts the Pipelines page into the dashboard of a running scheduler.

The page rests on Bokeh and on parts of Dask that are not public.  Where either is
missing or different, there is no page, one line in the log says why, and
everything else goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage_dask.dashboard.page.serving import Monitor

logger = logging.getLogger(__name__)


def mount(scheduler: Any, monitor: Monitor) -> None:
    """Show a monitor's cluster on the dashboard of a scheduler, as tab and for JupyterLab.

    On a scheduler that has the page already it shows this monitor from now on.  Must be called on
    the scheduler's event loop.

    Args:
        scheduler: Dask's, in this process.
        monitor: Makes the snapshots that are shown, and acts.
    """
    try:
        from sage_dask.dashboard.page.serving import serve

        serve(scheduler, monitor)
    except Exception as error:
        logger.warning(
            "the dashboard has no page 'Pipelines': %s: %s; it needs bokeh, and a release of "
            "distributed that sage_dask was tested with",
            type(error).__name__,
            error,
        )
