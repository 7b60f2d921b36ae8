"""``sage-dask serve``: a model server on this machine, real or imitated, until Ctrl-C."""

from __future__ import annotations

import ipaddress
import threading
from pathlib import Path
from typing import Any

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import note
from sage_dask.cli.streams import say
from sage_dask.cli.timed_flags import NAMES, timed_flags, timed_options
from sage_dask.endpoint.secret import KeySource

_EXAMPLES = example(
    "sage-dask serve Qwen/Qwen2.5-3B-Instruct",
    "sage-dask serve --tiny",
    "sage-dask serve --timed --seats 64 --latency 0.4 --jitter 0.1",
    "sage-dask serve Qwen/Qwen2.5-72B-Instruct -- --tensor-parallel-size 4",
)

_HELP = """\b
Exit codes:
  1    the server did not start, or ended by itself; the message says why
  2    usage error, or vLLM is not installed
  130  ended with Ctrl-C; 143 and 129 for SIGTERM and SIGHUP, in the same good order
"""


# What a timed server would not feel.
_OF_VLLM = (
    *("vllm_words", "device", "python", "log", "max_num_seqs", "max_num_queued_reqs"),
    "priorities",
)


@click.command(epilog=_EXAMPLES + _HELP)
@click.argument("words", nargs=-1, metavar="[MODEL] [-- VLLM_OPTIONS]")
@click.option(
    "--tiny",
    type=click.Choice(["tiny", "small", "3b"]),
    is_flag=False,
    flag_value="tiny",
    help="A random model in a real vLLM: its words are noise, all else is real.  '3b' has the "
    "shape of one of 3 billion weights and is for a GPU.",
)
@click.option(
    "--timed",
    is_flag=True,
    help="No model: a server that takes the time of one, to try a pipeline before renting a GPU.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any other than the default lets others in.",
)
@click.option("--name", help="What requests call the model; by default the last part of MODEL.")
@click.option(
    "--api-key-env",
    metavar="VARIABLE",
    help="Name of the environment variable that holds the key which requests must bring.",
)
@click.option(
    "--gpu", "device", flag_value="gpu", type=click.Choice(["gpu", "cpu"]), help="Run on the GPU."
)
@click.option("--cpu", "device", flag_value="cpu", help="Run on the CPU, even beside a GPU.")
@click.option(
    "--python",
    type=click.Path(exists=True, dir_okay=False),
    help="The Python that has vLLM, where that is another one.",
)
@click.option(
    "--log",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for what vLLM prints.",
)
@click.option(
    "--start-timeout",
    type=click.FloatRange(min=1),
    default=900,
    show_default=True,
    help="Seconds that vLLM may take to load the model.",
)
@click.option(
    "--max-model-len", type=click.IntRange(min=1), help="Longest prompt with its answer, in tokens."
)
@click.option("--max-num-seqs", type=click.IntRange(min=1), help="Most requests in one batch.")
@click.option(
    "--max-num-queued-reqs",
    type=click.IntRange(min=1),
    help="Most requests in the server; others are told to come back (503).",
)
@click.option("--priorities", is_flag=True, help="Let requests carry a priority.")
@click.option("--request-metrics", is_flag=True, help="Have answers say how long they took.")
@timed_flags
def serve(words: tuple[str, ...], tiny: str | None, timed: bool, **given: Any) -> None:
    """Serve MODEL with vLLM under OpenAI's protocol, until Ctrl-C.

    MODEL is a folder, or the name of a model on Hugging Face.  It runs on the GPU if there is
    one, else on the CPU.  With --tiny or --timed no model is needed.
    """
    has_model = bool(words) and not words[0].startswith("-")
    _require_one({"MODEL": has_model, "--tiny": tiny, "--timed": timed})
    given["vllm_words"] = words[has_model:]
    _refuse_misplaced("vLLM" if timed else "--timed", given)
    _warn_of_strangers(given["host"], given["api_key_env"])
    if timed:
        _serve_timed(given)
    elif tiny:
        from sage_dask.cluster.tiny_model import tiny_model, tiny_words

        model_words = (*tiny_words(tiny), *given["vllm_words"])
        _serve_vllm(str(tiny_model(tiny)), model_words, given)
    else:
        _serve_vllm(words[0], given["vllm_words"], given)


def _serve_vllm(model: str, vllm_words: tuple[str, ...], given: dict[str, Any]) -> None:
    from sage_dask.cluster import ModelServer, VllmOptions

    options = VllmOptions(
        name=given["name"],
        max_model_len=given["max_model_len"],
        max_num_seqs=given["max_num_seqs"],
        max_num_queued_reqs=given["max_num_queued_reqs"],
        priorities=given["priorities"],
        request_metrics=given["request_metrics"],
        extra=vllm_words,
    )
    note("Starting vLLM; that takes half a minute for a small model, minutes for a large one")
    with ModelServer.start(
        model,
        host=given["host"],
        port=given["port"],
        python=given["python"],
        device=given["device"],
        timeout_s=given["start_timeout"],
        options=options,
        log=given["log"],
        api_key_env=given["api_key_env"],
        say=lambda line: note(f"  {line}"),
    ) as server:
        announce(server.endpoint, server.model, f"pid {server.pid}, log {server.log_path}")
        server.wait()


def _serve_timed(given: dict[str, Any]) -> None:
    from sage_dask.cluster.timed_server.serving import own_process_server

    variable = given["api_key_env"]
    key = KeySource(env=variable).resolve().reveal() if variable else None
    options = timed_options(given, model=given["name"], api_key=key)
    with own_process_server(options, given["host"], given["port"]) as server:
        announce(server.endpoint, options.model, "imitated: no model runs, its words are noise")
        # Until a signal raises; the command line makes the right exit code of it.
        threading.Event().wait()


def announce(endpoint: str, model: str, about: str) -> None:
    """Say where a server is, and how to use it."""
    say(f"Serving {model!r} at {endpoint} ({about})")
    say(f"  Generate(endpoint={endpoint!r}, model={model!r})")
    note("Ctrl-C ends it.")


def _require_one(said: dict[str, Any]) -> None:
    """Raise unless exactly one way to serve was named."""
    named = [name for name, value in said.items() if value]
    if len(named) != 1:
        found = " and ".join(named) or "none of them"
        raise click.UsageError(
            f"one of {', '.join(said)} says what to serve, and here is {found}; "
            "such as: sage-dask serve --tiny"
        )


def _refuse_misplaced(other: str, given: dict[str, Any]) -> None:
    """Raise for a flag that only the ``other`` kind of server would feel."""
    flags = {each.name: each.opts[0] for each in click.get_current_context().command.params}
    for name in _OF_VLLM if other == "vLLM" else sorted(NAMES):
        if given[name]:
            said = flags.get(name, f"{' '.join(given['vllm_words'])!r}")
            raise click.UsageError(f"{said} is for {other} alone; leave it out here")


def _warn_of_strangers(host: str, api_key_env: str | None) -> None:
    """Say who can reach an address that is not this machine's alone."""
    if not _is_loopback(host) and api_key_env is None:
        note(
            f"warning: whoever reaches {host} can use the server, for no key is asked for; "
            "give --api-key-env to ask for one"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
