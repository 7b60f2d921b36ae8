"""A package named ``vllm`` whose server starts at once, or dies as the real one does.

It is started by the command line, with the environment, that a real one gets;
the model's name says what becomes of it.  That of a ``careless`` model leaves its engine behind.
"""

from __future__ import annotations

from pathlib import Path

_SERVER = """
import argparse, http.server, json, os, signal, subprocess, sys, time

DEATHS = {
    "homeless": "huggingface_hub.errors.HFValidationError: Repo id must be in the form ...",
    "large": "(EngineCore pid=7) ValueError: Free memory on device cuda:0 (1.2/79.1 GiB) on startup"
    " is less than desired GPU memory utilization (0.92, 72.8 GiB).",
    "odd": "Traceback (most recent call last):\\n"
    "(EngineCore pid=7) ERROR 11-22 21:57:18 [core.py:1] ZeroDivisionError: the odd one\\n"
    "ValueError: nobody knows why\\n"
    "RuntimeError: Engine core initialization failed. See root cause above.",
}

parser = argparse.ArgumentParser()
for flag in ("model", "served-model-name", "host", "port"):
    parser.add_argument(f"--{flag}")
chosen, words = parser.parse_known_args()
name = chosen.served_model_name
if name in DEATHS:
    print(DEATHS[name], file=sys.stderr)
    sys.exit(1)
print("arguments", json.dumps(words), flush=True)
print("offline", os.environ.get("HF_HUB_OFFLINE"), flush=True)
# An engine in a session of its own: neither a signal to the group nor its parent's death ends it.
engine = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print("engine", engine.pid, flush=True)

def end(number, frame):
    engine.kill()
    engine.wait()
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)

if name != "careless":
    signal.signal(signal.SIGTERM, end)
if name == "silent":
    print("INFO 11-22 21:57:18 [x.py:1] Loading weights: 10%", flush=True)
    time.sleep(1000)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        key = os.environ.get("VLLM_API_KEY")
        is_known = not key or self.headers["Authorization"] == f"Bearer {key}"
        is_open = self.path == "/health"
        self.send_response(200 if is_open or is_known else 401)
        self.end_headers()
        models = {"data": [{"id": name}]}
        self.wfile.write(b"" if is_open else json.dumps(models).encode())

    def log_message(self, *words):
        pass

http.server.ThreadingHTTPServer((chosen.host, int(chosen.port)), Handler).serve_forever()
"""


def install_fake_vllm(folder: Path) -> None:
    """Write the package below a folder that is on Python's path."""
    package = folder / "vllm" / "entrypoints" / "openai"
    package.mkdir(parents=True)
    for parent in (package, *package.parents[:2]):
        (parent / "__init__.py").write_text("")
    (package / "api_server.py").write_text(_SERVER)
