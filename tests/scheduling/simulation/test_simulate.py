"""The simulated cluster keeps the laws of queues, and what the policies promise holds on it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from sage_dask.errors import PlanError, PolicyError, RunError
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.policy import Placement, Policy
from sage_dask.scheduling.simulation.machines import SimulatedNode, equal_nodes
from sage_dask.scheduling.simulation.scenario import GateChange, Overheads, Scenario
from sage_dask.scheduling.simulation.simulate import compare, simulate
from sage_dask.scheduling.simulation.workload import (
    Batch,
    Poisson,
    Step,
    Stream,
    exponential,
    single_steps,
    uniform,
)
from sage_dask.scheduling.view import demand

# What the experiments on real nodes use: 10 to 400 ms, 205 ms on average.
MIXED = uniform(0.01, 0.4)
MEAN_S = 0.205

AT_ONCE = Overheads(start_s=0.0, report_s=0.0)


def open_loop(load, threads=128, num_batches=3000, *, draw=MIXED, mean_s=MEAN_S, **more):
    """Return a stream that keeps a share of the threads busy."""
    return Stream("rag/1", Poisson(load * threads / mean_s, num_batches, draw, **more))


def waiting(num_batches, *, draw=MIXED, job="rag/1", window=None, **more):
    """Return a stream whose batches are all there from the start."""
    return Stream(job, Poisson(math.inf, num_batches, draw, **more), window=window)


def most_at_once(spans):
    """Return how many of these spans of time overlap at most."""
    spans = list(spans)
    changes = [(end, -1) for _, end in spans] + [(start, 1) for start, _ in spans]
    under_way = most = 0
    for _, change in sorted(changes):
        under_way += change
        most = max(most, under_way)
    return most


# One task, by hand


def test_a_task_takes_its_duration_and_the_overheads():
    """A second of work, 20 ms to start and 30 ms to report it: 1.05 s in all, 20 ms of wait."""
    overheads = Overheads(start_s=0.02, report_s=0.03)
    stream = Stream("rag/1", single_steps([1.0], [5.0]))

    result = simulate(Scenario([SimulatedNode("n1")], [stream], overheads=overheads))

    assert result.times.total.p99_s == pytest.approx(1.05)
    assert result.times.wait.p99_s == pytest.approx(0.02)
    assert result.busy_s == {"n1": pytest.approx(1.0)}
    assert result.makespan_s == pytest.approx(1.05)


def test_a_slow_node_takes_as_many_times_longer():
    """Three seconds for a second's work on a node three times slower."""
    scenario = Scenario(
        [SimulatedNode("n1", slowdown=3.0)],
        [Stream("rag/1", single_steps([1.0]))],
        overheads=AT_ONCE,
    )

    assert simulate(scenario).times.total.p99_s == pytest.approx(3.0)


def test_a_call_holds_its_thread_while_it_waits_for_a_seat():
    """Two callers, one seat: the second waits a second there, and its thread with it."""
    step = Step("generate", 0.5, server="llm", request_s=1.0)
    scenario = Scenario(
        [SimulatedNode("n1", threads=2)],
        [Stream("rag/1", [Batch(0.0, (step,))] * 2)],
        servers={"llm": 1},
        overheads=AT_ONCE,
    )

    result = simulate(scenario, keep_rows=True)

    assert [row.ended_s for row in result.rows] == pytest.approx([1.5, 2.5])
    assert result.busy_s == {"n1": pytest.approx(4.0)}
    assert result.servers["llm"].peak_waiting == 1
    assert result.servers["llm"].utilisation == pytest.approx(2.0 / 2.5)


def test_inputs_are_moved_before_the_start():
    """Fifty megabytes at a hundred a second take half a second to another node."""
    on = {name: demand(workers=frozenset({f"{name}/0"})) for name in ("n1", "n2")}
    steps = (Step("embed", 1.0, on["n1"], output_bytes=50_000_000), Step("retrieve", 1.0, on["n2"]))
    scenario = Scenario(
        [SimulatedNode("n1"), SimulatedNode("n2")],
        [Stream("rag/1", [Batch(0.0, steps)])],
        overheads=AT_ONCE,
    )

    times = simulate(scenario).times

    assert times.total.p99_s == pytest.approx(2.5)
    assert times.wait.p99_s == pytest.approx(0.5)


def test_spread_goes_where_large_inputs_lie():
    """Moving a gigabyte takes longer than any task, so each chain stays on its node."""
    steps = (Step("embed", 0.1, output_bytes=10**9), Step("retrieve", 0.1))
    stream = Stream("rag/1", [Batch(0.01 * index, steps) for index in range(40)])

    result = simulate(Scenario(equal_nodes(4), [stream]), "spread", keep_rows=True)

    node_of = {row.key: row.node for row in result.rows}
    assert all(node_of[number, 0] == node_of[number, 1] for number in range(40))


# Laws


def test_the_same_scenario_ends_in_the_same_way_bit_for_bit():
    """Every number and every row of two runs is the same."""
    scenario = Scenario(equal_nodes(8, slow={3: 2.0}), [open_loop(0.6, 64, 500)])

    first, second = (simulate(scenario, keep_rows=True) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("policy", ["fifo", "round-robin", "spread", "pack", "priority"])
def test_each_step_of_each_batch_runs_once_and_in_order(policy, monkeypatch):
    """Nothing is lost, repeated or early, and the dispatcher's counts hold after each decision."""
    dispatch = Dispatcher.dispatch

    def dispatch_and_validate(self, now_s):
        starts = dispatch(self, now_s)
        self.validate()
        return starts

    monkeypatch.setattr(Dispatcher, "dispatch", dispatch_and_validate)
    steps = (Step("embed", 0.1), Step("generate", 0.2, demand(gates={"llm": 1})))
    batches = [Batch(0.01 * index, steps) for index in range(60)]
    scenario = Scenario(equal_nodes(3, 2), [Stream("rag/1", batches)], gates={"llm": 3})

    result = simulate(scenario, policy, keep_rows=True)

    assert Counter(row.key for row in result.rows) == {(n, i): 1 for n in range(60) for i in (0, 1)}
    ended = {row.key: row.ended_s for row in result.rows}
    assert all(row.ready_s >= ended[row.key[0], 0] for row in result.rows if row.key[1] == 1)
    assert (result.statistics.num_running, result.statistics.num_queued) == (0, 0)


def test_threads_are_never_shared():
    """With two tasks assigned per thread, a node of four threads still runs four at a time."""
    scenario = Scenario([SimulatedNode("n1", threads=4, workers=2)], [waiting(200)])

    result = simulate(scenario, saturation=2.0, keep_rows=True)

    assert most_at_once((row.started_s, row.ended_s) for row in result.rows) == 4


def test_assigning_ahead_hides_the_overheads():
    """The next task is there when a thread falls free, which is what saturation is for."""
    overheads = Overheads(start_s=0.05, report_s=0.05)
    scenario = Scenario(equal_nodes(4), [waiting(400)], overheads=overheads)

    late, ahead = (simulate(scenario, saturation=factor) for factor in (1.0, 2.0))

    assert ahead.makespan_s < 0.8 * late.makespan_s


def test_waits_are_those_of_an_m_m_c_queue():
    """Four servers at 70 % load wait as long on average as Erlang's C formula says."""
    threads, load = 4, 0.7
    offered = threads * load
    tail = offered**threads / math.factorial(threads) / (1 - load)
    blocked = tail / (sum(offered**k / math.factorial(k) for k in range(threads)) + tail)
    expected_s = blocked / (threads - offered)
    stream = open_loop(load, threads, 20_000, draw=exponential(1.0), mean_s=1.0, seed=4)

    result = simulate(Scenario([SimulatedNode("n1", threads)], [stream], overheads=AT_ONCE), "fifo")

    assert result.times.wait.mean_s == pytest.approx(expected_s, rel=0.1)
    assert result.utilisation == pytest.approx(load, rel=0.03)


def test_a_window_keeps_so_many_in_flight():
    """Little's law: throughput times latency is the window, while there are batches left."""
    scenario = Scenario(equal_nodes(4), [waiting(3000, window=24)])

    result = simulate(scenario, keep_rows=True)

    assert result.throughput * result.times.total.mean_s == pytest.approx(24, rel=0.02)
    assert most_at_once((row.ready_s, row.ended_s) for row in result.rows) <= 24


def test_a_window_waits_for_arrivals():
    """A batch in a window with room comes when it comes, and not earlier."""
    stream = Stream("rag/1", single_steps([0.1, 0.1], [0.0, 5.0]), window=1)

    result = simulate(Scenario([SimulatedNode("n1")], [stream], overheads=AT_ONCE), keep_rows=True)

    assert [row.started_s for row in result.rows] == [0.0, 5.0]
    assert result.times.total.p99_s == pytest.approx(0.1)


# Gates and servers


def test_seats_are_never_exceeded_and_fully_used():
    """Beyond the gate the server sees no more than its slots, and no more than its seats serve."""
    step = Step("generate", 0.01, demand(gates={"llm": 1}), server="llm", request_s=0.2)
    stream = Stream("rag/1", [Batch(0.0, (step,))] * 400)
    scenario = Scenario(equal_nodes(4), [stream], gates={"llm": 12}, servers={"llm": 8})

    result = simulate(scenario)

    assert result.servers["llm"].peak_seated == 8
    assert result.servers["llm"].peak_waiting == 12 - 8
    assert result.peak_held == {"llm": 12}
    assert result.throughput == pytest.approx(8 / 0.2, rel=0.03)


def test_a_gate_narrower_than_the_server_leaves_seats_empty():
    """Four slots fill half of eight seats, less what passes outside of the server."""
    step = Step("generate", 0.01, demand(gates={"llm": 1}), server="llm", request_s=0.2)
    stream = Stream("rag/1", [Batch(0.0, (step,))] * 200)
    scenario = Scenario(equal_nodes(4), [stream], gates={"llm": 4}, servers={"llm": 8})

    result = simulate(scenario)

    assert result.servers["llm"].peak_seated == 4
    assert 0.4 < result.servers["llm"].utilisation < 0.5


def test_gates_change_while_tasks_run():
    """Narrowed to two and closed and opened again, the gate holds each as soon as it can."""
    draw = uniform(0.1, 0.1, demand=demand(gates={"llm": 1}))
    changes = [GateChange(1.0, "llm", 2), GateChange(2.0, "llm", 0), GateChange(3.0, "llm", 8)]
    scenario = Scenario(
        equal_nodes(4),
        [waiting(300, draw=draw)],
        gates={"llm": 8},
        gate_changes=changes,
        overheads=AT_ONCE,
    )

    rows = simulate(scenario, keep_rows=True).rows

    def peak(from_s, to_s):
        return most_at_once(
            (row.started_s, row.ended_s) for row in rows if from_s <= row.started_s < to_s
        )

    assert (peak(0.0, 1.0), peak(1.11, 2.0), peak(2.0, 3.0), peak(3.0, 9.0)) == (8, 2, 0, 8)


# Nodes that come and go


def test_losing_nodes_loses_no_batch():
    """What ran on two lost nodes runs elsewhere, and the lost attempts are counted."""
    nodes = equal_nodes(4)
    nodes[1:3] = [replace(node, leaves_s=0.7) for node in nodes[1:3]]
    scenario = Scenario(nodes, [waiting(300)])

    result = simulate(scenario, keep_rows=True)

    lost = [row for row in result.rows if row.is_lost]
    done = Counter(row.key for row in result.rows if not row.is_lost)
    assert len(lost) == result.num_lost == 16
    assert {row.node for row in lost} == {"node-1", "node-2"}
    assert done == {(number, 0): 1 for number in range(300)}
    assert all(row.ended_s <= 0.7 for row in result.rows if row.node in ("node-1", "node-2"))


def test_seats_held_for_a_lost_node_come_back():
    """The server answers callers that are gone, and goes on with those that are not."""
    step = Step("generate", 0.0, server="llm", request_s=1.0)
    stream = Stream("rag/1", [Batch(0.0, (step,))] * 12)
    nodes = [SimulatedNode("n1", 4, leaves_s=0.5), SimulatedNode("n2", 4)]

    result = simulate(Scenario(nodes, [stream], servers={"llm": 2}), "round-robin")

    assert result.num_batches == 12
    assert result.num_lost == 4
    assert result.servers["llm"].peak_seated == 2


def test_a_node_that_joins_is_used_from_then_on():
    """The second node takes its share once it is there, also when it is there again."""
    nodes = [
        SimulatedNode("n1"),
        SimulatedNode("n2", joins_s=1.0, leaves_s=2.0),
        SimulatedNode("n2", joins_s=3.0),
    ]

    rows = simulate(Scenario(nodes, [waiting(600)]), keep_rows=True).rows

    starts = [row.started_s for row in rows if row.node == "n2"]
    assert min(starts) == pytest.approx(1.003)
    assert not [at_s for at_s in starts if 2.0 <= at_s < 3.0]
    assert [at_s for at_s in starts if at_s >= 3.0]


# What can not be simulated


def test_tasks_that_nothing_can_start_end_the_simulation_with_the_reason():
    """No node has a GPU: the error says so instead of going on for ever."""
    stream = Stream("rag/1", single_steps([1.0], demand=demand({"GPU": 1})))

    with pytest.raises(RunError, match=r"1 of them waiting.*GPU=1.*give it the nodes"):
        simulate(Scenario(equal_nodes(2), [stream], longest_s=20.0))


def test_a_policy_that_does_wrong_ends_the_simulation():
    """The policy's own error comes out."""

    class Elsewhere(Policy):
        name = "elsewhere"

        def place(self, task, cluster):
            return Placement("mars", "nice view")

    with pytest.raises(PolicyError, match=r"'elsewhere'.*'mars'"):
        simulate(Scenario(equal_nodes(2), [waiting(1)]), Elsewhere())


def test_a_server_that_there_is_not_is_named():
    """The error tells which stage calls which server."""
    stream = Stream("rag/1", [Batch(0.0, (Step("generate", 0.1, server="llm"),))])

    with pytest.raises(PlanError, match="stage 'generate' calls model server 'llm'"):
        simulate(Scenario(equal_nodes(1), [stream]))


# What the policies promise


def test_spread_beats_the_others_where_nodes_differ():
    """Two of sixteen nodes three times slower, 70 % load: spread's P99 is not above anyone's."""
    nodes = equal_nodes(16, slow={4: 3.0, 11: 3.0})
    threads = sum(node.threads / node.slowdown for node in nodes)
    scenario = Scenario(nodes, [open_loop(0.7, threads, seed=2)])

    spread, *others = compare(scenario, ["spread", "round-robin", "fifo", "pack"])

    assert all(spread.times.total.p99_s < 0.6 * other.times.total.p99_s for other in others)


@pytest.mark.parametrize("load", [0.2, 0.7])
def test_spread_balances_time_and_round_robin_counts(load):
    """On equal nodes: busy time within 97 % and counts within 99 %."""
    scenario = Scenario(equal_nodes(16), [open_loop(load, seed=2)])

    spread, turns = compare(scenario, ["spread", "round-robin"])

    assert spread.balance_busy >= 0.97
    assert turns.balance_tasks >= 0.985


def test_pack_uses_few_nodes_and_keeps_latency():
    """A quarter of the load fits five nodes of sixteen, at no more than 1.5 times the P99."""
    scenario = Scenario(equal_nodes(16), [open_loop(0.25, seed=2)])

    spread, pack = compare(scenario, ["spread", "pack"])

    assert pack.num_nodes_used <= 5
    assert pack.peak_nodes <= 5
    assert pack.times.total.p99_s <= 1.5 * spread.times.total.p99_s


def test_the_high_class_hardly_notices_the_low_one():
    """Beside a cluster full of low tasks its P99 is within 1.2 times of alone; the low ones end."""
    high = Stream("rag/1", Poisson(125.0, 1500, MIXED, seed=2, priority=10.0))
    low = waiting(2000, job="batch/1")

    alone, _, both = (
        simulate(Scenario(equal_nodes(16), streams), "priority")
        for streams in ([high], [low], [high, low])
    )

    in_company = both.by_job["rag/1"].total
    assert in_company.p99_s <= 1.2 * alone.times.total.p99_s
    assert both.by_priority[0.0].total.num_records == 2000
    assert both.by_priority[10.0] == both.by_job["rag/1"]


def test_weights_share_a_full_cluster():
    """Of two jobs that always have work, the one with weight 3 gets three quarters."""
    heavy = replace(waiting(3000, job="a/1"), weight=3.0)
    light = waiting(3000, job="b/1", seed=1)

    rows = simulate(Scenario(equal_nodes(4), [heavy, light]), keep_rows=True).rows

    early = Counter(row.job for row in rows[:2000])
    assert early["a/1"] / early.total() == pytest.approx(0.75, abs=0.02)


# Results


def test_idle_nodes_count_in_the_balance_and_the_result_says_simulated():
    """Pack leaves fifteen of sixteen nodes idle, which no balance can hide."""
    result = simulate(Scenario(equal_nodes(16), [open_loop(0.02, num_batches=200)]), "pack")

    assert result.num_nodes_used == 1
    assert result.balance_busy < -1.0
    assert str(result).startswith("simulated: Pack(")
    assert "on 1 of 16 nodes" in str(result)
    assert result.row()["nodes_used"] == 1


def test_utilisation_counts_nodes_while_they_are_there():
    """A node that is there for half of the time has half of the threads' time."""
    stream = Stream("rag/1", single_steps([1.0, 1.0], [0.0, 1.0]))
    nodes = [SimulatedNode("n1", 1), SimulatedNode("n2", 1, joins_s=1.0)]

    result = simulate(Scenario(nodes, [stream], overheads=AT_ONCE))

    assert result.makespan_s == pytest.approx(2.0)
    assert result.utilisation == pytest.approx(2.0 / 3.0)
