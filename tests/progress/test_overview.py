"""What one table shows of the jobs of a process."""

from __future__ import annotations

from sage_dask.progress.overview import Jobs
from sage_dask.scheduling.gate import GateStatistics
from tests.progress.building import progress_of, report_of


def test_time_goes_on_between_the_news_of_a_job_that_runs():
    """While a slow batch is awaited, elapsed time grows and the rate falls."""
    jobs = Jobs()
    jobs.hear(progress_of(50, expected=100, elapsed_s=10.0), now_s=3.0)

    (row,) = jobs.overview(now_s=18.0).jobs

    assert (row.elapsed_s, row.rate, row.eta_s) == (25.0, 2.0, 25.0)


def test_time_stands_still_for_a_job_that_is_over():
    """What stays on the screen is what the job took."""
    jobs = Jobs()
    jobs.hear(progress_of(50, expected=100, report=report_of("done")), now_s=3.0)

    (row,) = jobs.overview(now_s=99.0).jobs

    assert (row.state, row.elapsed_s, row.eta_s) == ("done", 10.0, None)


def test_what_earlier_starts_did_is_no_work_of_this_one():
    """A run that goes on does not begin at a dream of a rate."""
    jobs = Jobs()
    jobs.hear(progress_of(1_010, num_before=1_000, elapsed_s=10.0), now_s=0.0)

    assert jobs.overview(0.0).jobs[0].rate == 1.0


def test_jobs_of_one_pipeline_are_told_apart():
    """By their ids; a pipeline that runs once goes by its name."""
    jobs = Jobs()
    for pipeline, job in [("rag", "1f"), ("index", "2e"), ("rag", "3d")]:
        jobs.hear(progress_of(pipeline=pipeline, job=job), 0.0)

    assert [row.name for row in jobs.overview(0.0).jobs] == ["rag/1f", "index", "rag/3d"]


def test_jobs_are_over_when_the_last_of_them_is():
    """One that still runs keeps the table going."""
    jobs = Jobs()
    jobs.hear(progress_of(job="1f", report=report_of("done")), 0.0)
    jobs.hear(progress_of(job="2e"), 0.0)
    before = jobs.are_over
    jobs.hear(progress_of(job="2e", report=report_of("ZeroDivisionError")), 0.0)

    assert (before, jobs.are_over) == (False, True)


def test_gates_of_a_job_that_is_over_are_not_shown():
    """What it held when it was last told of it, it holds no more."""
    jobs = Jobs()
    jobs.hear(progress_of(job="1f", gates={"llm": GateStatistics(4, 3)}), 0.0)
    before = jobs.overview(0.0).gates
    jobs.hear(
        progress_of(job="1f", gates={"llm": GateStatistics(4, 3)}, report=report_of("done")), 0.0
    )

    assert (list(before), jobs.overview(0.0).gates) == (["llm"], {})
