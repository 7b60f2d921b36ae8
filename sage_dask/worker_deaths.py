"""What Dask tells of a worker process that ended: which one, and whether it was for memory.

A nanny notes in the scheduler's event log that it ends a process for its memory
before it does so.  The note travels by itself and may arrive after the news of
the death, so it is looked up late: only once a record is convicted, which
takes further deaths.  Nothing is subscribed to, so nothing has to be undone.
"""

from __future__ import annotations

from distributed import Client, KilledWorker

from sage_dask.suspects import Death

# Dask's own: the nanny logs worker, pid and rss under it.
TOPIC = "worker-restart-memory"


def death_of(error: KilledWorker) -> Death:
    """Return which worker process ended."""
    worker = error.last_worker
    return Death(
        worker=worker.address,
        pid=worker.pid,
        name=str(worker.name),
        memory_limit_bytes=worker.memory_limit,
    )


def rss_at_kill(client: Client, death: Death) -> int | None:
    """Return the memory in bytes for which a nanny ended a process.

    None where it ended for another reason.  That may be the kernel's out-of-memory killer,
    which tells nobody but the kernel's log.
    """
    for _, event in client.get_events(TOPIC):
        # An address alone may come back, where workers have fixed ports.
        if (event["worker"], event["pid"]) == (death.worker, death.pid):
            rss_bytes: int = event["rss"]
            return rss_bytes
    return None
