"""Why a server died, found in what it printed."""

from __future__ import annotations

import pytest

from sage_dask.cluster.server_log import cause, last_line, read_tail

ROOT_CAUSE = """\
(EngineCore pid=7) ERROR 11-22 21:57:18 [core.py:9] Traceback (most recent call last):
(EngineCore pid=7) AttributeError: 'NoneType' object has no attribute 'layers'
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above.
"""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("/usr/bin/python: No module named vllm.entrypoints", "vLLM is not installed for that"),
        ("ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed for that"),
        ("OSError: [Errno 98] Address already in use", "the port is taken"),
        ("api_server.py: error: unrecognized arguments: --foo 3", "does not know --foo 3;"),
        (
            "x.py: error: argument --dtype: bad\n  Value error, no",
            "option, --dtype: bad Value error",
        ),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", "the GPU has too little memory"),
        ("is less than desired GPU memory utilization (0.9", "the GPU has too little memory"),
        ("is less than desired CPU memory utilization (0.9", "the machine has too little memory"),
        ("RuntimeError: [enforce fail] std::bad_alloc", "the machine has too little memory"),
        ("ValueError: No available memory for the cache blocks.", "no room for the KV cache"),
        ("16.0 GiB KV cache is needed, which is larger than", "no room for the KV cache"),
        ("User-specified max_model_len (9) is greater than the derived max_model_len", "lower it"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error.", "put a token into HF_TOKEN"),
        ("Invalid repository ID or local directory specified: 'x'", "there is no such model"),
        ("LocalEntryNotFoundError: An error happened", "the hub can not be reached"),
        ("Cannot find any model weights with `/x`", "holds no weights"),
        ("RuntimeError: Failed to infer device type, please set", "built for a GPU"),
        ("ImportError: libcudart.so.12: cannot open shared object file", "does not fit the torch"),
        ("RuntimeError: operator torchvision::nms does not exist", "does not fit the torch"),
        ("PermissionError: [Errno 13] Permission denied: '/x'", "denied: '/x'"),
        (ROOT_CAUSE, "AttributeError: 'NoneType' object has no attribute 'layers'"),
        ("INFO 11-22 21:57:18 [x.py:1] loading", "loading"),
        ("", "it said nothing"),
    ],
)
def test_causes_are_recognised(log, told):
    """The reader gets the cause and the mend, not the last of a hundred lines."""
    assert told in cause(f"INFO starting\n{log}\n" if log else "", 1)


@pytest.mark.parametrize("code", [-9, 137])
def test_a_silent_kill_is_told_as_what_it_mostly_is(code):
    """The kernel kills without a word in the log; a cause in the log still counts more."""
    assert "runs out of memory" in cause("INFO all is well", code)
    assert "the port is taken" in cause("Address already in use", code)


def test_the_last_line_is_shown_without_its_prefix():
    """Process, date and source go; of a progress bar the last state counts."""
    log = (
        "first\n(EngineCore pid=7) INFO 11-22 21:57:18 [core.py:1] Loading:  0%\r Loading: 50%\n\n"
    )

    assert last_line(log) == "Loading: 50%"
    assert last_line("(APIServer pid=1) INFO 11-22 21:57:18 [a.py:2] ready\n") == "ready"
    assert last_line("x" * 1000) == "x" * 200
    assert last_line("") == ""


def test_a_log_is_read_from_the_run_that_matters(tmp_path):
    """What an earlier run said is no cause of this one's end; a log may be missing."""
    log = tmp_path / "log"
    log.write_text("Address already in use\nall well\n")

    assert read_tail(log, len("Address already in use\n")) == "all well\n"
    assert read_tail(tmp_path / "none") == ""
