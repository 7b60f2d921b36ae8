"""The demonstration from end to end, on a corpus of a few passages."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from sage_dask.cluster.timed_server import TimedServer
from sage_dask.demo import run
from sage_dask.demo.corpus import build_corpus
from sage_dask.demo.entries import standard_library
from sage_dask.demo.run import Demo, Writer, make_corpus, rag_pipeline, run_demo

pytestmark = pytest.mark.rag

NUM_QUESTIONS = 4


@contextmanager
def no_progress():
    """Lend an observer that looks away."""
    yield lambda progress: None


def demo_in(folder):
    """Return a demonstration of sixty passages on one node."""
    return Demo(folder, num_passages=60, num_questions=NUM_QUESTIONS, num_nodes=1)


@pytest.fixture(scope="module", autouse=True)
def small_library():
    """Read one package of the standard library instead of all."""
    with pytest.MonkeyPatch.context() as patch:
        small = partial(build_corpus, root=standard_library() / "email")
        patch.setattr(run, "build_corpus", small)
        yield


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Lend a demonstration that was run twice: the folder, both reports, and both stories."""
    demo = demo_in(tmp_path_factory.mktemp("demo"))
    stories, reports, kept = [], [], []
    for _ in range(2):
        story = []
        reports.append(run_demo(demo, story.append, no_progress))
        stories.append("\n".join(story))
        kept.append(ages(demo))
    return demo, reports, stories, kept


def ages(demo):
    """Return when each file of corpus and index was written."""
    files = [path for path in demo.corpus.rglob("*") if path.is_file()]
    return {str(path.relative_to(demo.corpus)): path.stat().st_mtime_ns for path in files}


def test_all_questions_are_answered(shown):
    """Every question has an answer that quotes passages, in the order of the questions."""
    demo, (report, _), _, _ = shown
    folder = min((demo.folder / "runs").iterdir())
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    questions = [json.loads(line)["id"] for line in demo.questions.read_text().splitlines()]

    assert (report.num_written, report.num_failed) == (NUM_QUESTIONS, 0)
    assert [answer["id"] for answer in answers] == questions
    assert all(answer["answer"] and answer["answer_meta"]["model"] for answer in answers)


def test_the_run_folder_holds_plan_report_and_events(shown):
    """What is needed to look at the run again is beside its answers."""
    demo, (report, _), _, _ = shown
    folder = min((demo.folder / "runs").iterdir())

    assert {path.name for path in folder.iterdir()} == {
        "answers.jsonl",
        "events.jsonl",
        "journal.db",
        "lock",
        "plan.md",
        "report.txt",
    }
    assert (folder / "report.txt").read_text() == f"{report}\n"
    assert "flowchart LR" in (folder / "plan.md").read_text()


def test_the_story_tells_what_was_made(shown):
    """A stranger sees the corpus, the dashboard, the quality, an answer and where things are."""
    _, _, (story, _), _ = shown

    for part in (
        "60 passages",
        "dashboard   http://127.0.0.1:",
        "Embedding 60 passages",
        "\n  Q  ",
        "\n  A  ",
    ):
        assert part in story


def test_a_second_run_uses_corpus_and_index_again(shown):
    """What takes long is made once: no file of it is written again, and the story says so."""
    _, reports, (_, story), (first, second) = shown

    assert first == second
    assert "Using the corpus in" in story
    assert "Using the index in" in story
    assert reports[1].num_written == NUM_QUESTIONS


def test_a_corpus_that_was_cut_short_is_made_again(tmp_path):
    """Without its questions, which come last, a corpus does not count as made."""
    demo = demo_in(tmp_path)
    demo.corpus.mkdir(parents=True)
    demo.passages.write_text("half a pass")

    make_corpus(demo, lambda line: None)

    assert len(demo.passages.read_text().splitlines()) == 60
    assert len(demo.questions.read_text().splitlines()) == NUM_QUESTIONS


def test_corpora_of_other_sizes_are_kept_apart(tmp_path):
    """Asking for more passages does not use an index of fewer."""
    small, large = Demo(tmp_path, num_passages=100), Demo(tmp_path, num_passages=200)

    assert small.index != large.index


def test_the_pipeline_says_what_to_import_beforehand(tmp_path):
    """Nodes are forked with the model's library imported; that needs its name."""
    assert "sentence_transformers" in rag_pipeline(demo_in(tmp_path), tmp_path / "a.jsonl").imports


def test_a_model_server_may_write_the_answers(shown):
    """With a writer answers come from its server, and the story says that they are noise."""
    demo, _, _, _ = shown
    story = []

    with TimedServer(model="random-qwen2-tiny-0", max_model_len=100_000) as server:
        writer = Writer(server.endpoint, "random-qwen2-tiny-0")
        report = run_demo(replace(demo, writer=writer), story.append, no_progress)

    folder = max((demo.folder / "runs").iterdir())
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    told = "\n".join(story)
    assert (report.num_written, report.num_failed) == (NUM_QUESTIONS, 0)
    assert {answer["answer_meta"]["model"] for answer in answers} == {writer.model}
    assert "written by 'random-qwen2-tiny-0', whose weights are random: its words are noise" in told
    assert "quoted from the passages" not in told


def test_a_real_model_is_not_called_noise():
    """Only the models that were made here are random."""
    assert "noise" not in Writer("http://gpu-0:8000/v1", "Qwen/Qwen2.5-3B-Instruct").description


def test_noise_gives_no_orders_to_a_terminal(tmp_path):
    """Control characters in an answer are shown as what they are: unprintable."""
    answers, story = tmp_path / "answers.jsonl", []
    record = {"question": "Why?", "answer": "a\x1b[2J\x07b c", "answer_meta": {}}
    answers.write_text(f"{json.dumps(record)}\n")

    run._say_examples(answers, "noise", story.append)

    assert "  A  a\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}b c" in story
