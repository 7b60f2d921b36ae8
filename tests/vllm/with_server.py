"""Start one vLLM with the tiny model, and run the tests that need a real one against it.

Called by ``make test-vllm``; the first argument is the Python that has vLLM,
further ones go to pytest in place of the usual files.
"""

from __future__ import annotations

import os
import subprocess
import sys

from sage_dask.cluster import ModelServer, VllmOptions
from sage_dask.cluster.tiny_model import tiny_model, tiny_words

TESTS = ("tests/vllm", "tests/conformance/test_model_servers.py")

# Few seats and a short queue, so that a test fills both in a second.
OPTIONS = VllmOptions(
    max_num_seqs=16,
    max_num_queued_reqs=128,
    priorities=True,
    request_metrics=True,
    extra=tiny_words(),
)


def main(python: str, *words: str) -> int:
    """Return pytest's exit code."""
    print("Starting vLLM with the tiny model (half a minute, more on a busy machine)", flush=True)
    with ModelServer.start(
        tiny_model(), python=python, device="cpu", options=OPTIONS, say=print
    ) as server:
        environment = {
            **os.environ,
            "SAGE_DASK_VLLM_ENDPOINT": server.endpoint,
            "SAGE_DASK_VLLM_MODEL": server.model,
            "SAGE_DASK_VLLM_PYTHON": python,
        }
        # -m "": these are the tests that the ordinary run leaves out.
        command = [sys.executable, "-m", "pytest", "-m", "", "--timeout", "600"]
        return subprocess.call([*command, *(words or TESTS)], env=environment)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
