"""The examples, run as their README files tell a reader to run them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

import psutil
import pytest

from tests.processes import left_of

EXAMPLES = Path(__file__).parent.parent / "examples"

# ssh [-o OPTION] HOST COMMAND: a login shell on this machine, without our variables.
FAKE_SSH = """\
#!/usr/bin/env bash
[[ $1 == -o ]] && shift 2
exec env -i HOME="$HOME" bash -c "$2"
"""

# srun [OPTIONS] COMMAND...: as many processes on this machine as the step has tasks.
FAKE_SRUN = """\
#!/usr/bin/env bash
ntasks=$SLURM_NNODES
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && ntasks=${1#*=}
    shift
done
pids=()
trap 'kill "${pids[@]}"' TERM
for ((task = 0; task < ntasks; task++)); do
    SLURMD_NODENAME=node-$task "$@" &
    pids+=($!)
done
wait
wait
"""


class Folder:
    """A copy of one example, and a shell in it that finds this environment's programs."""

    def __init__(self, example: str, parent: Path) -> None:
        self.path = parent / example
        shutil.copytree(EXAMPLES / example, self.path)
        self._programs = [Path(sys.executable).parent]

    def add_program(self, name: str, script: str) -> None:
        """Put a program in front of those of the same name."""
        folder = self.path.parent / "programs"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
        self._programs = [folder, Path(sys.executable).parent]

    def run(self, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; what it says is shown where a test fails."""
        path = os.pathsep.join([*map(str, self._programs), os.environ["PATH"]])
        # Into files: of a pipe, the end would be waited for until a forgotten process ends.
        with TemporaryFile("w+") as stdout, TemporaryFile("w+") as stderr:
            code = subprocess.run(
                ["bash", "-c", command],
                cwd=self.path,
                env={**os.environ, **environment, "PATH": path},
                stdout=stdout,
                stderr=stderr,
                timeout=100,
            ).returncode
            said = [file.seek(0) or file.read() for file in (stdout, stderr)]
        done = subprocess.CompletedProcess(command, code, *said)
        print(f"$ {command}\n{done.stdout}{done.stderr}[{done.returncode}]")
        return done

    def rows(self, name: str) -> list[dict]:
        """Return the rows of a file of JSON lines."""
        return [json.loads(line) for line in (self.path / name).read_text("utf-8").splitlines()]

    def documented(self, commands) -> list[str]:
        """Return the commands of the example's README."""
        return commands((self.path / "README.md").read_text("utf-8"))

    def processes(self) -> list[psutil.Process]:
        """Return what still runs in the folder."""
        found = psutil.process_iter(["cwd"])
        return [process for process in found if process.info["cwd"] == str(self.path)]


@pytest.fixture
def example(tmp_path):
    """Lend a function that copies an example; no process of it may be left."""
    folders = []

    def copied(name: str) -> Folder:
        folders.append(Folder(name, tmp_path))
        return folders[-1]

    yield copied

    running = [process for folder in folders for process in folder.processes()]
    # Python's resource tracker ends when it sees that its parent has: a moment later.
    left = left_of(running, within_s=10)
    for process in left:
        process.kill()
    assert left == []


@pytest.mark.cluster
def test_quickstart(example, commands):
    """Script, YAML file and Python object give the same answers; one question fails alone."""
    folder = example("quickstart")
    outputs = []

    for command in folder.documented(commands):
        done = folder.run(command)
        assert done.returncode == (3 if command.startswith("sage-dask run") else 0)
        if "run" in command or command.startswith("python"):
            outputs.append(folder.rows("answers.jsonl"))

    answers = [(row["id"], row["answer"]) for row in outputs[0]]
    assert answers == [("q-1", "Paris"), ("q-3", "Nairobi")]
    assert outputs == outputs[:1] * 3
    assert [row["id"] for row in folder.rows("answers.jsonl.failed.jsonl")] == ["q-2"]


def test_quickstart_is_the_same_in_python_and_yaml(example):
    """The YAML file declares the very pipeline that the script declares."""
    folder = example("quickstart")
    compare = (
        "from quickstart import quickstart; from sage_dask.spec import load; "
        "assert load('quickstart.yaml') == quickstart"
    )

    done = folder.run(f'python -c "{compare}"')

    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.cluster
def test_own_operator(example, commands):
    """Classes of a module beside the file run here and on nodes, with the same rows."""
    folder = example("own_operator")
    outputs = []

    for command in folder.documented(commands):
        done = folder.run(command)
        assert done.returncode == (3 if command.startswith("sage-dask run") else 0)
        if command.startswith("sage-dask run"):
            outputs.append(folder.rows("triaged.jsonl"))

    triaged = [(row["id"], row["label"], row["name"]) for row in outputs[0]]
    assert triaged == [
        ("t-1", "billing", "Ada"),
        ("t-2", "fault", "Grace"),
        ("t-4", "other", "Ada"),
    ]
    assert outputs == outputs[:1] * 2
    (failed,) = folder.rows("triaged.jsonl.failed.jsonl")
    assert (failed["id"], failed["stage"], failed["attempts"]) == ("t-3", "find_customer", 2)


def test_own_operator_misses_its_rules_before_any_work(example):
    """The operator's own check ends the run as a plan error."""
    folder = example("own_operator")
    (folder.path / "rules.json").unlink()

    done = folder.run("sage-dask run triage.yaml")

    assert done.returncode == 2
    assert "stage 'classify': Classify: no rules at 'rules.json'" in done.stderr


def test_openai_batch(example, commands):
    """Each request has one result line: an answer as the server would shape it, or an error."""
    folder = example("openai_batch")

    codes = [folder.run(command).returncode for command in folder.documented(commands)]

    first, second, refused = folder.rows("results.jsonl")
    choices = [row["response"]["body"]["choices"][0] for row in (first, second)]
    assert codes == [3, 0]
    assert [row["custom_id"] for row in (first, second)] == ["r-1", "r-2"]
    assert choices[0]["message"]["content"] == "Name the capital of France"
    assert [choice["finish_reason"] for choice in choices] == ["stop", "length"]
    assert second["response"]["body"]["usage"] == {"completion_tokens": 3}
    assert (refused["response"], refused["error"]["code"]) == (None, "BadRowError")


@pytest.mark.slow
@pytest.mark.rag
@pytest.mark.cluster
@pytest.mark.timeout(400)
def test_rag(example, commands):
    """From nothing to answers with sources, by the documented commands on a small corpus."""
    folder = example("rag")
    documented = folder.documented(commands)
    outputs = []

    for command in documented:
        small = command.replace("make_corpus.py", "make_corpus.py --passages 100 --questions 4")
        done = folder.run(small)
        assert done.returncode == 0
        if "rag.yaml --run-dir" in command or "rag.py" in command:
            outputs.append(folder.rows("answers.jsonl"))

    assert len(documented) == 7
    yaml, python = [[(row["id"], row["answer"]) for row in rows] for rows in outputs]
    assert yaml == python
    assert [row["id"] for row in outputs[0]] == [
        row["id"] for row in folder.rows("questions.jsonl")
    ]
    passages = {row["id"] for row in folder.rows("passages.jsonl")}
    assert all(passages.issuperset(row["answer_meta"]["sources"]) for row in outputs[0])
    assert {row["answer_meta"]["model"] for row in outputs[0]} == {"extractive"}


@pytest.mark.cluster
def test_one_machine(example, commands):
    """The script's cluster runs the pipeline on its workers, and nothing is left of it."""
    folder = example("batch_scripts")

    done = folder.run(folder.documented(commands)[0], TMPDIR=str(folder.path.parent))

    assert done.returncode == 0
    assert_counted(folder, {"worker-0", "worker-1"})
    assert "on the cluster at tcp://127.0.0.1:" in done.stderr
    assert list(folder.path.parent.glob("tmp.*")) == []


@pytest.mark.slow
@pytest.mark.cluster
def test_one_machine_passes_on_the_exit_code(example):
    """A pipeline that is refused ends the script with the code of the refusal, cleaned up."""
    folder = example("batch_scripts")

    done = folder.run("./one_machine.sh wordcount.yaml", LLM="0.5")

    assert done.returncode == 2
    assert "asks for LLM=1 per task" in done.stderr


@pytest.mark.cluster
@pytest.mark.parametrize(
    "script", ["plain_hosts.sh", pytest.param("rag.slurm", marks=pytest.mark.slow)]
)
def test_a_cluster_of_hosts_is_encrypted(example, commands, script):
    """Scheduler and workers of several hosts speak TLS with a key that is gone afterwards."""
    folder = example("batch_scripts")
    folder.add_program("ssh", FAKE_SSH)
    folder.add_program("srun", FAKE_SRUN)
    (documented,) = [line for line in folder.documented(commands) if script in line]
    slurm = {"JOB_ID": "1", "NNODES": "2", "CPUS_PER_TASK": "1", "MEM_PER_NODE": "4096"}
    told = {f"SLURM_{name}": value for name, value in slurm.items()}
    told |= {"SLURM_SUBMIT_DIR": str(folder.path), "SLURMD_NODENAME": "node-0", "THREADS": "1"}
    here = documented.replace("eth0", "lo").replace("ib0", "lo").replace("sbatch", "bash")

    done = folder.run(here, **told)

    logs = "".join(path.read_text() for path in folder.path.glob("worker*.log"))
    assert done.returncode == 0
    assert_counted(folder, {f"node-{number}" for number in range(3)})
    assert "on the cluster at tls://127.0.0.1:" in done.stderr
    assert "tcp://" not in logs
    assert logs.count("Registered to:      tls://") == 2
    assert list(folder.path.glob("cluster-*")) == []


def assert_counted(folder: Folder, workers: set[str]) -> None:
    """Check the output of ``wordcount.yaml``: all rows, each by one of the workers."""
    rows = folder.rows("counts.jsonl")
    assert [row["num_words"] for row in rows] == [1, 2, 3, 4, 5, 6]
    # One of two may have counted all of them before the other was asked.
    assert {row["worker"] for row in rows} <= workers


@pytest.mark.parametrize(
    "script", sorted(EXAMPLES.glob("batch_scripts/*.s*")), ids=lambda p: p.name
)
def test_scripts_are_whole(script):
    """Each script parses, begins with what it is run by, and stops at the first error."""
    parsed = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    text = script.read_text("utf-8")

    assert (parsed.returncode, parsed.stderr) == (0, "")
    if script.name != "common.sh":
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "\nset -euo pipefail\n" in text
