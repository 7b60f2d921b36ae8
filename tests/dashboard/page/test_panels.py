"""What each panel makes of a snapshot."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from sage_dask import breakdown as parts
from sage_dask.breakdown import Breakdown, Part
from sage_dask.dashboard.page import (
    breakdown,
    decisions,
    empty,
    failures,
    gates,
    header,
    jobs,
    nodes,
    notices,
    stages,
)
from sage_dask.dashboard.page.theme import PartColours
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.endpoint.usage import Usage
from sage_dask.metrics import LatencySummary
from sage_dask.report import StageCost
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.statistics import Decision, NodeStatistics, Notice
from tests.dashboard.fake_monitor import FakeMonitor, job, report, scheduling, snapshot


class _Reader(HTMLParser):
    """Reads tags, attributes and words of a panel."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.words.append(data)


def words(markup: str) -> str:
    """Return what people read."""
    return " ".join(_Reader(markup).words)


def panels(shown: Snapshot) -> dict[str, str]:
    """Return all panels of a snapshot, by name."""
    chosen = shown.jobs[0]
    return {
        "header": header.render(shown),
        "notices": notices.render(shown),
        "jobs": jobs.render(shown, chosen.name, {chosen.name: "#123456"}),
        "stages": stages.render(chosen),
        "breakdown": breakdown.render(chosen, PartColours()),
        "nodes": nodes.render(shown),
        "gates": gates.render(shown),
        "decisions": decisions.render(shown),
        "failures": failures.render(shown, chosen.name),
    }


def node_statistics(**changes):
    """Return a node of eight threads that has nothing to do."""
    plain = {
        "threads": 8.0,
        "in_flight": 0,
        "num_placed": 0,
        "placed_s": 0.0,
        "slowdown": 1.0,
        "num_waiting": 0,
        "idle_s": None,
    }
    return NodeStatistics(**{**plain, **changes})


# Escaping


EVIL = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>"


def evil_snapshot() -> Snapshot:
    """Return a snapshot in which everything that users name is an attack."""
    told = report(
        message=EVIL,
        num_read=3,
        stages={EVIL: StageCost(1.0, 3, 3, Usage(requests=3))},
        breakdown=Breakdown(3, 1.0, (Part(EVIL, 1.0, EVIL, True, (Part(EVIL, 1.0, EVIL),)),)),
        last_failures={EVIL: EVIL},
    )
    server = ServerStatistics(4, True, 1, 4, None, None, EVIL, 3.0)
    return snapshot(
        [job(EVIL, EVIL, num_failed=1, notes=(EVIL,), report=told)],
        scheduling=scheduling(
            policy=EVIL,
            latest=(Decision(1.0, EVIL, EVIL, EVIL, EVIL, EVIL),),
            gates={EVIL: GateStatistics(4, 1.0)},
            servers={EVIL: server},
            nodes={EVIL: node_statistics()},
        ),
        nodes=[NodeLoad(EVIL, 1, 8, 0.2, 0.2, 0)],
        notices=[(1.0, Notice(EVIL, EVIL))],
    )


@pytest.mark.parametrize("name", sorted(panels(evil_snapshot())))
def test_no_panel_lets_text_of_users_become_markup(name):
    """Ids, names, notes, messages and reasons are shown as they are, and do nothing."""
    read = _Reader(panels(evil_snapshot())[name])

    assert not {"img", "script"} & set(read.tags)
    # The one script is ours, and the same whatever the job's name is.
    assert {value for key, value in read.attributes if key.startswith("on")} <= {jobs._CHOOSE}
    assert any("<img src=x onerror=alert(1)>" in text for text in read.words)


def test_the_command_of_an_empty_page_is_text():
    """An address comes from settings, and is escaped all the same."""
    assert "<b>" not in empty.render("tcp://<b>:8786")


# Bounds


@pytest.mark.parametrize(
    ("name", "tag", "most"),
    [
        ("jobs", "tr", 2 * jobs.MOST_ROWS + 1),
        ("stages", "tr", stages.MOST_ROWS + 1),
        ("breakdown", "tr", breakdown.MOST_PARTS + 1),
        ("nodes", "div", 2 * nodes.MOST_TILES + 1),
        ("gates", "tr", 4 * gates.MOST_ROWS + 2),
        ("decisions", "tr", decisions.MOST_ROWS + 1),
        ("failures", "tr", failures.MOST_ROWS + 1),
        ("notices", "li", notices.MOST),
    ],
)
def test_panels_are_bounded(name, tag, most):
    """Ten thousand of everything make no larger page than some dozens."""
    number = 10_000
    told = report(
        num_read=1,
        stages={f"s{i}": StageCost(1.0, 1, 1) for i in range(number)},
        breakdown=Breakdown(1, 1.0, tuple(Part(f"s{i}", 1.0, "", True) for i in range(number))),
        last_failures={f"q{i}": "x" * 1000 for i in range(number)},
    )
    server = ServerStatistics(4, True, 1, 4, None, None, "x" * 1000, None)
    shown = snapshot(
        [job(f"rag/{i}", notes=("x" * 1000,), report=told) for i in range(number)],
        scheduling=scheduling(
            latest=[Decision(1.0, "k", "rag/1", "s", "n", "x" * 1000)] * number,
            gates={f"g{i}": GateStatistics(1, 1.0) for i in range(number)},
            servers={f"http://{i}": server for i in range(number)},
        ),
        nodes=[NodeLoad(f"n{i}", 1, 8, 0.9, 0.2, 1) for i in range(number)],
        notices=[(1.0, Notice("drift", "x" * 9000))] * number,
    )

    made = panels(shown)[name]

    assert _Reader(made).tags.count(tag) <= most
    assert len(made) < 160_000


# Header


def test_the_header_adds_up_what_runs():
    """Jobs that ended count neither as running nor in the rate."""
    shown = snapshot(
        [
            job("a/1", rate=10.0),
            job("b/1", "paused", rate=2.5),
            job("c/1", "done", rate=99.0),
        ],
        scheduling=scheduling(
            policy="pack",
            num_queued=1234,
            num_running=5,
            nodes={"n1": node_statistics(in_flight=2), "n2": node_statistics()},
        ),
        nodes=[NodeLoad("n1", 1, 8, None, None, 0), NodeLoad("n2", 1, 8, None, None, 0)],
    )

    said = words(header.render(shown))

    assert "Jobs running 1  1 paused" in said
    assert "Throughput 12.5  records/s" in said
    assert "Policy pack" in said
    assert "Nodes busy 1  of 2" in said
    assert "Tasks queued 1,234" in said


def test_the_header_says_that_dask_places():
    """Where there is no dispatcher nothing is made up."""
    said = words(header.render(snapshot([job()], scheduling=None)))

    assert "Policy dask  places all tasks" in said
    assert "queued" not in said


# Jobs


def test_a_job_shows_how_far_it_is():
    """Done, rate, time to go, percentiles, failures, tokens and cost, each with its unit."""
    told = report(latency=LatencySummary(1.5, 1.25, 4.5, 10))
    shown = job(
        num_read=4310,
        num_failed=31,
        expected=20_000,
        rate=12.34,
        eta_s=754.0,
        tokens=1_234_567,
        cost=0.5,
        report=told,
    )

    made = jobs.render(snapshot([shown]), shown.name, {})
    said = words(made)

    for wanted in ("4,310 / 20,000", "22%", "12.3", "12:34", "1.25 s", "4.50 s", "31", "1.2M"):
        assert wanted in said
    assert "width:21.4%" in made  # What was done and did not fail, before what failed.


def test_a_job_of_unknown_length_has_no_bar():
    """Nobody knows how far it is."""
    shown = job(num_read=4310)

    assert 'class="bar"' not in jobs.render(snapshot([shown]), shown.name, {})


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("running", "run"),
        ("paused", "warn"),
        ("silent", "warn"),
        ("lost", "bad"),
        ("done", "good"),
        ("budget reached", "warn"),
        ("TooManyFailuresError", "bad"),
    ],
)
def test_states_look_as_they_are(state, kind):
    """An outcome that nobody knows is an error's name."""
    assert jobs.kind_of(state) == kind


def test_what_holds_a_job_up_stands_below_it():
    """Notes of the run, silence of its driver, the message it ended with."""
    waiting = job("a/1", "silent", notes=("gpu-0 is down",), heard_s=200.0)
    ended = job("b/1", "StopRun", report=report(outcome="StopRun", message="401: bad key"))

    said = words(jobs.render(snapshot([waiting, ended]), "a/1", {}))

    assert "gpu-0 is down · its driver has said nothing for 3 min" in said
    assert "401: bad key" in said


def test_a_job_that_is_over_has_no_rate_and_no_time_to_go():
    """They would be those of its last ten seconds for ever."""
    shown = job(state="done", rate=77.7, eta_s=88.0)

    said = words(jobs.render(snapshot([shown]), shown.name, {}))

    assert "77.7" not in said
    assert "1:28" not in said


# Stages


def test_stages_show_what_came_went_and_took():
    """Share of busy time over all stages; requests only where any stage sends some."""
    told = report(
        stages={
            "embed": StageCost(1.0, 100, 90),
            "generate": StageCost(3.0, 90, 80, Usage(requests=95, retries=5, prompt_tokens=2000)),
        }
    )

    said = words(stages.render(job(report=told)))

    assert "embed 100 90 10.0 25.0%" in said
    assert "generate 90 80 33.3 75.0% 95 5 2k" in said


def test_stages_without_requests_have_no_columns_of_them():
    """No clutter."""
    told = report(stages={"embed": StageCost(1.0, 100, 90)})

    assert "Requests" not in words(stages.render(job(report=told)))


def test_a_job_that_nothing_is_known_of_says_so():
    """Its first batch is under way."""
    assert "nothing is back yet" in words(stages.render(job()))


# Where the latency goes


def measured(name: str = "rag/1", **changes):
    """Return a job whose records took a second: a quarter waiting, the rest in a model stage."""
    calls = (Part(parts.TURN, 0.25, "waiting to be sent"), Part(parts.GENERATION, 0.5, "tokens"))
    told = Breakdown(
        10,
        1.0,
        (
            Part("gate", 0.25, "a gate was full"),
            Part("generate", 0.75, "computing", True, calls),
            Part(parts.RESIDUE, 0.0, "nobody knows"),
        ),
    )
    return job(name, report=report(breakdown=told), **changes)


def test_bars_are_stacked_to_the_whole():
    """Segments of a bar touch, begin at nothing and end at all."""
    bars = breakdown.bars([measured()], None, PartColours())

    assert bars.segments["left"] == [0.0, 0.25]
    assert bars.segments["right"] == [0.25, 1.0]
    assert bars.segments["ms"] == ["250", "750"]
    assert bars.segments["share"] == ["25.0%", "75.0%"]
    assert bars.labels["text"] == ["rag/1   1.00 s"]


def test_the_model_calls_of_the_chosen_job_have_a_bar_of_their_own():
    """Right below its own; other jobs are not taken apart."""
    bars = breakdown.bars([measured("a/1"), measured("b/1")], "b/1", PartColours())

    assert [text.split()[0] for text in bars.labels["text"]] == ["b/1", "in", "a/1"]
    assert bars.num_bars == 3


def test_a_part_has_one_colour_in_all_bars():
    """Stages have one by name, which no other stage has."""
    other = job(
        "b/1",
        report=report(
            breakdown=Breakdown(
                1, 1.0, (Part("embed", 0.5, "", True), Part("generate", 0.5, "", True))
            )
        ),
    )

    bars = breakdown.bars([measured("a/1"), other], None, PartColours())

    colours: dict[str, set[str]] = {}
    for part, colour in zip(bars.segments["part"], bars.segments["colour"], strict=True):
        colours.setdefault(part, set()).add(colour)
    assert all(len(each) == 1 for each in colours.values())
    assert colours["embed"] != colours["generate"]


def test_a_residue_below_nothing_is_told_and_not_drawn():
    """More was accounted for than passed: a figure for the table, none for a bar."""
    told = Breakdown(1, 0.9, (Part("embed", 1.0, "", True), Part(parts.RESIDUE, -0.1, "")))
    shown = job(report=report(breakdown=told))

    bars = breakdown.bars([shown], None, PartColours())

    assert bars.segments["right"] == [1.0]
    assert "residue -100" in words(breakdown.render(shown, PartColours()))


def test_parts_are_told_with_what_they_consist_of():
    """In milliseconds and as shares of the whole latency."""
    said = words(breakdown.render(measured(), PartColours()))

    assert "gate 250 25.0% a gate was full" in said
    assert "generate 750 75.0%" in said
    assert "generation 500 50.0%" in said
    assert "mean 1.00 s over 10 records" in said


def test_bars_are_bounded():
    """A hundred jobs of a hundred stages each draw no more than fits."""
    many = tuple(Part(f"s{i}", 0.01, "", True) for i in range(100))
    all_jobs = [job(f"j/{i}", report=report(breakdown=Breakdown(1, 1.0, many))) for i in range(100)]

    bars = breakdown.bars(all_jobs, None, PartColours())

    assert bars.num_bars == breakdown.MOST_JOBS
    assert len(bars.segments["y"]) <= breakdown.MOST_JOBS * breakdown.MOST_PARTS


# Nodes


@pytest.mark.parametrize(
    ("load", "known", "said"),
    [
        ({}, {"in_flight": 0}, "0/8 idle"),
        ({}, {"in_flight": 3}, "3/8 busy"),
        ({}, {"in_flight": 8}, "8/8 full"),
        ({}, {"in_flight": 6, "num_waiting": 4}, "2/8 busy"),
        ({}, {"in_flight": 6, "num_waiting": 4}, "4 waiting"),
        ({}, {"slowdown": 2.14}, "2.1 times slower"),
        ({"num_paused": 2}, {}, "takes no tasks"),
        ({"num_paused": 1}, {}, "1 of 2 workers take none"),
        ({"memory": 0.85}, {}, "short of memory"),
        ({"memory": 0.42, "cpu": None}, {}, "mem  42% cpu  \u2013"),
    ],
)
def test_a_nodes_state_is_said_in_words(load, known, said):
    """Colours are for the quick look."""
    plain = {"num_workers": 2, "num_threads": 8, "memory": 0.2, "cpu": 0.1, "num_paused": 0}
    shown = snapshot(
        nodes=[NodeLoad("n1", **{**plain, **load})],
        scheduling=scheduling(nodes={"n1": node_statistics(**known)}),
    )

    assert said in words(nodes.render(shown))


def test_a_nodes_load_is_unknown_without_a_dispatcher():
    """Its threads are told, and no state is made up."""
    shown = snapshot(nodes=[NodeLoad("n1", 1, 8, 0.2, 0.1, 0)], scheduling=None)

    said = words(nodes.render(shown))

    assert "8 threads" in said
    assert "idle" not in said


# Gates and servers


def test_gates_and_servers_show_what_is_held_of_what_there_is():
    """With the server's own queue and batch, and why its limit is what it is."""
    shown = snapshot(
        scheduling=scheduling(
            gates={"llm": GateStatistics(32, 32.0), "disk": GateStatistics(None, 2.0)},
            servers={
                "http://gpu-0/v1": ServerStatistics(
                    64, True, 57, 60, 2.0, 61.0, "as many as it runs", None
                ),
                "http://gpu-1/v1": ServerStatistics(
                    16, False, 0, 16, None, None, "set by hand", 12.4
                ),
            },
        )
    )

    said = words(gates.render(shown))

    assert "http://gpu-0/v1 up 57 64 60 2 61 as many as it runs" in said
    assert "http://gpu-1/v1 down for 12 s 0 16 fixed 16 \u2013 \u2013 set by hand" in said
    assert "llm 32 32" in said
    assert "disk 2 none" in said


def test_a_gate_that_is_closed_looks_full():
    """Nothing can pass, although nothing is held."""
    shown = snapshot(scheduling=scheduling(gates={"llm": GateStatistics(0, 0.0)}))

    assert 'style="width:100.0%" class="warn"' in gates.render(shown)


# Decisions, failures, notices


def test_the_latest_decision_comes_first_and_says_why():
    """With when, job, stage and node."""
    shown = snapshot(
        now_s=100.0,
        scheduling=scheduling(
            latest=[
                Decision(50.0, "k1", "rag/1", "embed", "n1", "first by name"),
                Decision(98.0, "k2", "rag/1", "generate", "n2", "would end first"),
            ]
        ),
    )

    said = words(decisions.render(shown))

    assert said.index("2 s ago rag/1 generate n2 would end first") < said.index("50 s ago")


def test_failures_of_the_chosen_job_come_first_the_latest_before_others():
    """Other jobs have a few lines, so that none is overlooked."""
    told = report(last_failures={f"q-{i}": "read: ValueError: no id" for i in range(9)})
    shown = snapshot([job("a/1", report=told, num_failed=9), job("b/1", report=told, num_failed=9)])

    said = words(failures.render(shown, "b/1"))

    assert said.index("b/1 q-8 read: ValueError: no id") < said.index("b/1 q-7")
    assert said.index("b/1 q-0") < said.index("a/1 q-8")
    assert "18 in all" in said


def test_notices_are_whole_sentences_and_nothing_where_there_are_none():
    """An empty panel would be clutter."""
    text = "tasks ask for GPU=1. " + 30 * "Start workers with it. "

    assert notices.render(snapshot()) == ""
    assert text.strip() in words(notices.render(snapshot(notices=[(1.0, Notice("x", text))])))


def test_the_empty_page_names_the_one_command():
    """With this very scheduler's address, to be copied."""
    said = words(empty.render("tcp://10.0.0.1:8786"))

    assert "No pipeline has run here yet" in said
    assert "sage-dask run pipeline.yaml  --scheduler tcp://10.0.0.1:8786" in said


def test_panels_of_a_lively_cluster_are_all_there():
    """The fake's eight jobs on sixteen nodes reach every panel."""
    made = panels(FakeMonitor(8, 16, history_s=20).snapshot())

    assert all(words(markup) for markup in made.values())
