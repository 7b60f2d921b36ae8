"""How vLLM is called on either device, and where it is looked for."""

from __future__ import annotations

import sys

import pytest

from sage_dask.cluster import vllm_command as module
from sage_dask.cluster.vllm_command import (
    VllmOptions,
    find_device,
    find_python,
    served_name,
    vllm_command,
    vllm_environment,
)
from sage_dask.errors import MissingDependencyError, PlanError


def call(device, model="org/name", **options):
    """Return the command line for a model on a device."""
    return vllm_command("python", model, "127.0.0.1", 8000, device, VllmOptions(**options))


def test_the_cpu_build_is_called_as_a_module_within_bounds():
    """Without a figure for memory, or with compiling, it would not start here."""
    words = call("cpu")

    assert words[:5] == [
        "python",
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        "org/name",
    ]
    assert words[words.index("--kv-cache-memory-bytes") + 1] == str(256 << 20)
    assert words[words.index("--dtype") + 1] == "float32"
    assert "--enforce-eager" in words


def test_on_a_gpu_vllm_chooses_by_itself():
    """``vllm serve`` is called with nothing but where and which."""
    words = call("gpu")

    assert words[1:5] == ["-m", "vllm.entrypoints.cli.main", "serve", "org/name"]
    assert words[5:] == [
        *("--host", "127.0.0.1", "--port", "8000"),
        *("--served-model-name", "org/name"),
    ]


def test_options_become_flags():
    """Each that is given is said once; further words come last, as they are."""
    words = call(
        "gpu",
        name="mine",
        max_model_len=100,
        max_num_seqs=4,
        max_num_queued_reqs=8,
        kv_cache_bytes=1 << 20,
        dtype="bfloat16",
        priorities=True,
        request_metrics=True,
        extra=("--seed", "7"),
    )

    assert words[9:] == [
        *("--served-model-name", "mine"),
        *("--max-model-len", "100"),
        *("--max-num-seqs", "4"),
        *("--max-num-queued-reqs", "8"),
        *("--kv-cache-memory-bytes", str(1 << 20)),
        *("--dtype", "bfloat16"),
        *("--scheduling-policy", "priority"),
        "--enable-per-request-metrics",
        *("--seed", "7"),
    ]


@pytest.mark.parametrize("word", ["--host", "--host=0.0.0.0", "--api-key=secret", "--port"])
def test_extra_words_can_not_open_the_server_or_show_its_key(word):
    """What has a parameter of its own is refused, and the value stays out of the message."""
    with pytest.raises(PlanError, match="extra can not set '--") as caught:
        VllmOptions(extra=(word, "1"))

    assert "secret" not in str(caught.value)


def test_a_folder_is_served_under_its_own_name(tmp_path):
    """Requests need not know where the model lies; a name is served as it is."""
    assert served_name(str(tmp_path), VllmOptions()) == tmp_path.name
    assert served_name("org/name", VllmOptions()) == "org/name"
    assert served_name("org/name", VllmOptions(name="mine")) == "mine"


def test_the_environment_keeps_what_the_user_set(tmp_path):
    """A folder needs no hub, a CPU server shares its cores; the user's own settings stand."""
    inherited = {"OMP_NUM_THREADS": "3", "PATH": "/bin"}

    folder = vllm_environment(str(tmp_path), "cpu", inherited)
    hub = vllm_environment("org/name", "gpu", inherited)

    assert folder["HF_HUB_OFFLINE"] == "1"
    assert folder["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert (folder["OMP_NUM_THREADS"], folder["PATH"]) == ("3", "/bin")
    assert "HF_HUB_OFFLINE" not in hub
    assert "VLLM_CPU_OMP_THREADS_BIND" not in hub
    assert hub["VLLM_NO_USAGE_STATS"] == "1"


@pytest.mark.parametrize(
    ("names", "visible", "device"),
    [
        (["nvidia0"], None, "gpu"),
        (["kfd"], None, "gpu"),
        (["nvidiactl", "null"], None, "cpu"),
        (["nvidia0"], "0", "gpu"),
        (["nvidia0"], "", "cpu"),
        (["nvidia0"], "-1", "cpu"),
    ],
)
def test_a_gpu_is_found_unless_it_is_hidden(tmp_path, monkeypatch, names, visible, device):
    """NVIDIA's and AMD's device files tell; CUDA's own variable hides them."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for name in names:
        (tmp_path / name).write_text("")

    assert find_device(tmp_path) == device


def test_the_python_of_vllm_is_looked_for_in_order(tmp_path, monkeypatch):
    """The one given, then the variable's, then this one, then ``.venv-vllm`` beside it."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv(module.PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    beside = tmp_path / ".venv-vllm" / "bin" / "python"
    variable, given = tmp_path / "variable", tmp_path / "given"

    with pytest.raises(
        MissingDependencyError, match=r"vLLM is not installed for .* make venv-vllm"
    ):
        find_python()
    beside.parent.mkdir(parents=True)
    found = []
    for path in (beside, variable, given):
        path.write_text("")
        if path == variable:
            monkeypatch.setenv(module.PYTHON_VARIABLE, str(variable))
        found.append(find_python(str(given) if path == given else None))

    assert found == [str(beside), str(variable), str(given)]


def test_this_python_is_taken_where_it_has_vllm(monkeypatch):
    """On a GPU machine vLLM is installed beside sage_dask."""
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv(module.PYTHON_VARIABLE, raising=False)

    assert find_python() == sys.executable


def test_a_python_that_is_not_there_is_refused():
    """A wrong path is told before anything starts."""
    with pytest.raises(MissingDependencyError, match="there is no Python at '/no/python'"):
        find_python("/no/python")
