"""Runs whose processes are killed and stopped at random moments end as if nothing had been.

``make test-chaos`` makes many; ``SAGE_DASK_CHAOS_SEED`` repeats those of a seed.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.chaos.trouble import Trouble
from tests.chaos.verifier import faults

_ASKED_FOR = os.environ.get("SAGE_DASK_CHAOS_RUNS")
NUM_RUNS = int(_ASKED_FOR or 1)
NUM_RECORDS = 1000 if _ASKED_FOR else 300
SEED = int(os.environ.get("SAGE_DASK_CHAOS_SEED") or random.SystemRandom().randrange(100_000))

_UNLUCKY = range(0, NUM_RECORDS, 97)


def write_input(folder):
    """Write the records that the run is about."""
    folder.mkdir()
    rows = [json.dumps({"key": f"k{number}", "n": number}) for number in range(NUM_RECORDS)]
    (folder / "input.jsonl").write_text("\n".join(rows) + "\n")


@pytest.mark.cluster
@pytest.mark.parametrize("number", range(NUM_RUNS))
def test_nothing_is_lost_doubled_or_left_behind(tmp_path, number):
    """Each record comes to its end once; kills repeat what was under way, and leave nothing."""
    print(f"SAGE_DASK_CHAOS_SEED={SEED}, run {number}", end=": ", flush=True)
    folder = tmp_path / "of"
    write_input(folder)
    trouble = Trouble(folder, SEED + number, NUM_RECORDS)

    outcome = trouble.run()

    repeated = outcome.num_calls - (NUM_RECORDS - len(_UNLUCKY))
    print(
        f"struck {', '.join(outcome.struck) or 'nothing'}; {outcome.num_starts} starts in "
        f"{outcome.seconds:.1f} s; {repeated} calls repeated, at most {outcome.most_repeated}"
    )
    assert faults(folder, NUM_RECORDS, _UNLUCKY) == [], trouble.told()
    assert repeated <= outcome.most_repeated
    assert outcome.left == []
