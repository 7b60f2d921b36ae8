"""``sage-dask plan``: what would run, without running it."""

from __future__ import annotations

from pathlib import Path


def test_plan_prints_and_reads_nothing_else(folder, cli):
    """The plan is printed, and no output is made."""
    result = cli("plan", "p.yaml")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("pipeline shout\n  read     in.jsonl")
    assert not Path("out.jsonl").exists()


def test_plan_as_mermaid(folder, cli):
    """The same plan is a mermaid chart on request."""
    result = cli("plan", "p.yaml", "--format", "mermaid")

    assert result.stdout.startswith("flowchart LR\n")


def test_plan_compares_needs_with_planned_nodes(folder, cli):
    """A stage that needs what the nodes would not supply is refused, and accepted where they do."""
    text = Path("p.yaml").read_text()
    Path("p.yaml").write_text(text.replace("sink:", "    resources: {LLM: 2}\nsink:"))

    without = cli("plan", "p.yaml", "--nodes", "2")
    too_few = cli("plan", "p.yaml", "--nodes", "2", "--resources", "LLM=1")
    enough = cli("plan", "p.yaml", "--nodes", "2", "--resources", "LLM=2")

    assert without.exit_code == too_few.exit_code == 2
    assert "most that one worker offers is LLM=1" in too_few.stderr
    assert enough.exit_code == 0, enough.stderr


def test_plan_takes_batches_from_the_file(folder, cli):
    """What the run section says of batches shows in the plan."""
    with Path("p.yaml").open("a") as file:
        file.write("run: {batch_size: 5}\n")

    assert "5 records each, as asked" in cli("plan", "p.yaml").stdout
