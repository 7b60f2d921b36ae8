"""Placement by measured load: spread evenly, or packed on few nodes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling.load_aware import Pack, Spread
from sage_dask.scheduling.nodes import STALE_AFTER_S
from sage_dask.scheduling.policy import Placement, Wait
from tests.scheduling.building import (
    dispatch,
    dispatcher,
    keys,
    offered,
    submit,
    task,
    view,
    worker,
)

SHARES = st.none() | st.sampled_from([0.0, 0.3, 0.65, 0.8, 0.95, 1.0])
NAMES = list("abcdef")


@st.composite
def some_nodes(draw):
    """Draw up to six nodes, loaded, pressed and slowed down in all ways."""
    return [
        view(
            name,
            threads=float(draw(st.integers(1, 8))),
            outstanding_s=draw(st.integers(0, 40)) / 4,
            recent_s=float(draw(st.integers(0, 3))),
            slowdown=draw(st.sampled_from([1.0, 1.0, 0.5, 3.0])),
            memory=draw(SHARES),
            cpu=draw(SHARES),
        )
        for name in NAMES[: draw(st.integers(1, 6))]
    ]


INPUTS = st.dictionaries(st.sampled_from([*NAMES, "gone"]), st.integers(0, 10**9), max_size=4)


def chosen(policy, views, wanted=None, **facts):
    """Return the node that a policy chooses."""
    return policy.place(wanted or task(1), offered(policy, views, **facts)).node


def expected_end(policy, node, inputs, inputs_bytes):
    """Return when a typical task would end, in typical tasks, as the docstring of Spread says."""
    ahead = round(4 * node.outstanding_s / node.typical_s) / 4 / node.threads
    memory = max(0.0, (node.memory or 0.0) - 0.6) / 0.4
    cpu = max(0.0, (node.cpu or 0.0) - 0.9) / 0.1
    moved_s = (inputs_bytes - inputs.get(node.name, 0)) / policy.bytes_per_s
    return (
        (ahead + 1) * node.slowdown
        + policy.memory_weight * memory
        + policy.cpu_weight * cpu
        + moved_s / node.typical_s
    )


@given(views=some_nodes(), inputs=INPUTS, elsewhere=st.integers(0, 10**8))
def test_spread_finds_the_exact_optimum(views, inputs, elsewhere):
    """Looking at holders of inputs and one other node is as good as looking at all nodes."""
    policy = Spread()
    size = sum(inputs.values()) + elsewhere

    node = chosen(policy, views, task(1, inputs=inputs, inputs_bytes=size))

    ends = {v.name: expected_end(policy, v, inputs, size) for v in views}
    assert ends[node] <= min(ends.values()) + 1e-9


def test_spread_counts_time_and_not_tasks():
    """Three tasks of ten milliseconds are less work than one of ten seconds."""
    core = dispatcher("spread", worker("a", threads=4), worker("b", threads=4))
    core.durations.observe("short", 0.01)
    core.durations.observe("long", 10.0)
    submit(core, task("x", stage="long"))

    placed = submit(core, *(task(i, stage="short") for i in range(3)))

    assert placed == [(0, "b"), (1, "b"), (2, "b")]


def test_spread_counts_work_per_thread():
    """Four tasks on eight threads are less than three on four."""
    views = [
        view("a", outstanding_s=3.0, threads=4.0),
        view("b", outstanding_s=4.0, threads=8.0),
    ]

    assert chosen(Spread(), views) == "b"


@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 24))
def test_spread_keeps_equal_nodes_within_one_task(num_nodes, threads, num_tasks):
    """Equal tasks that only start differ by one at most between equal nodes."""
    core = dispatcher("spread", *(worker(f"n{i}", threads=threads) for i in range(num_nodes)))

    counts = Counter({f"n{i}": 0 for i in range(num_nodes)})
    counts.update(node for _, node in submit(core, *map(task, range(num_tasks))))

    assert max(counts.values()) - min(counts.values()) <= 1


def test_spread_avoids_full_memory_and_busy_processors():
    """Either puts an idle node behind one with a little work; none of it counts while at ease."""
    busy = view("b", outstanding_s=1.0)

    assert chosen(Spread(), [view("a", memory=0.95), busy]) == "b"
    assert chosen(Spread(), [view("a", cpu=1.0), busy]) == "b"
    assert chosen(Spread(), [view("a", memory=0.6, cpu=0.9), busy]) == "a"


def test_spread_takes_no_pressure_for_granted_where_none_is_known():
    """A node without metrics counts as at ease, beside one that is known to be."""
    assert chosen(Spread(), [view("a", memory=None), view("b", memory=0.2)]) == "a"
    assert chosen(Spread(), [view("a", memory=0.2), view("b", memory=None)]) == "a"


def test_spread_forgets_metrics_that_are_stale():
    """A node that was full and says nothing more is used again, once a tick has looked."""
    core = dispatcher("spread", worker("a", threads=9), worker("b", threads=9))
    core.node_measured("a", 1.0, 1.0, 0.0)
    assert submit(core, task(1), task(2)) == [(1, "b"), (2, "b")]

    later = STALE_AFTER_S + 1
    core.tick(later)

    assert submit(core, task(3), now=later) == [(3, "a")]


def test_spread_moves_the_task_to_its_inputs_unless_that_node_is_too_busy():
    """A second of moving is worth a second of waiting, and not two."""
    wanted = task(1, inputs={"b": 10**8}, inputs_bytes=10**8)

    near = [view("a"), view("b", threads=1.0, outstanding_s=0.5)]
    far = [view("a"), view("b", threads=1.0, outstanding_s=2.0)]

    assert chosen(Spread(), near, wanted) == "b"
    assert chosen(Spread(), far, wanted) == "a"


def test_spread_weights_are_parameters():
    """Without weights pressure does not count, and with fast links inputs do not."""
    full = [view("a", memory=1.0, cpu=1.0), view("b", outstanding_s=1.0)]
    wanted = task(1, inputs={"b": 10**8}, inputs_bytes=10**8)

    assert chosen(Spread(memory_weight=0.0, cpu_weight=0.0), full) == "a"
    near = [view("a"), view("b", outstanding_s=1.0)]
    assert chosen(Spread(bytes_per_s=1e12), near, wanted) == "a"


def test_spread_breaks_ties_by_work_given_so_far_and_then_by_name():
    """So runs repeat, and idle nodes take turns at low load."""
    assert chosen(Spread(), [view("a", recent_s=2.0), view("b", recent_s=1.0)]) == "b"
    assert chosen(Spread(), [view("b"), view("a")]) == "a"


def test_spread_gives_a_slow_node_less():
    """A node known to be three times slower gets a task only when others are three deep."""
    core = dispatcher("spread", worker("slow", threads=4), worker("zfast", threads=12))
    core.durations.observe("embed", 1.0)
    core.nodes["slow"].slowdown.observe(3.0, 0.0)
    for _ in range(30):
        core.nodes["slow"].slowdown.observe(3.0, 0.0)
    core.tick(0.0)

    counts = Counter(node for _, node in submit(core, *map(task, range(12))))

    assert counts == {"zfast": 12}


def test_spread_reasons_tell_load_and_moving():
    """Both numbers that decided are in the sentence."""
    wanted = task(1, inputs={"b": 10**8}, inputs_bytes=2 * 10**8)
    cluster = offered(Spread(), [view("a", outstanding_s=8.0), view("b", outstanding_s=2.0)])

    assert Spread().place(task(1), cluster).reason == "least loaded: 0.50 tasks per thread"
    assert Spread().place(wanted, cluster).reason == (
        "least loaded: 0.50 tasks per thread, inputs move in 1.000 s"
    )


def closed(name, **changes):
    """Return a node that never had a task."""
    return view(name, **changes)


def busy(name, in_flight=4):
    """Return a node with tasks."""
    return view(name, in_flight=in_flight, idle_since_s=None, last_placed=1)


def test_pack_fills_an_open_node_before_it_opens_another():
    """Four tasks of one thread each share the first of three nodes."""
    core = dispatcher("pack", *(worker(name, threads=4) for name in "abc"))

    placed = submit(core, *map(task, range(4)))

    assert {node for _, node in placed} == {"a"}


def test_pack_prefers_the_first_open_node_by_name():
    """So the last ones run dry when load falls."""
    views = [busy("c", 1), busy("b", 3), closed("a")]

    assert chosen(Pack(), views) == "b"


def test_pack_waits_while_the_wait_is_within_the_target():
    """Open nodes are full, the queue is short: it says until when."""
    wanted = task(1, now=10.0)
    cluster = offered(Pack(), [closed("b")], now_s=10.1, queued_s=0.8, busy_threads=4.0)

    answer = Pack(target_wait_s=0.25).place(wanted, cluster)

    assert isinstance(answer, Wait)
    assert answer.until_s == 10.25
    assert answer.reason == (
        "all open nodes are full, and the queue will take 0.200 s, less than 0.25 s"
    )


def test_pack_opens_a_node_when_the_queue_would_take_too_long():
    """The estimate alone is reason enough, before anybody has waited."""
    cluster = offered(Pack(), [closed("b")], queued_s=1.2, busy_threads=4.0)

    answer = Pack(target_wait_s=0.25).place(task(1), cluster)

    assert answer == Placement("b", "opened: the queue would take 0.300 s without it")


def test_pack_opens_a_node_when_a_task_has_waited_too_long():
    """Whatever the estimates say; exactly at the time that it gave when it chose to wait."""
    cluster = offered(Pack(), [closed("b")], now_s=0.25, queued_s=0.001, busy_threads=4.0)

    answer = Pack(target_wait_s=0.25).place(task(1), cluster)

    assert answer == Placement("b", "opened: the task has waited for 0.250 s")


def test_pack_opens_a_node_at_once_where_none_is_open():
    """There is nothing to wait for."""
    answer = Pack().place(task(1), offered(Pack(), [closed("b")]))

    assert answer == Placement("b", "opened: no node that could take it is open")


def test_pack_keeps_an_idle_node_open_for_a_while():
    """It is used again without a wait until ``stay_open_s``, and not after."""
    idle = view("b", last_placed=7, idle_since_s=10.0)
    facts = {"queued_s": 0.1, "busy_threads": 4.0}

    early = Pack(stay_open_s=5.0).place(
        task(1, now=14.9), offered(Pack(), [idle], now_s=14.9, **facts)
    )
    late = Pack(stay_open_s=5.0).place(
        task(1, now=15.0), offered(Pack(), [idle], now_s=15.0, **facts)
    )

    assert early == Placement("b", "still open: idle for 4.900 s")
    assert isinstance(late, Wait)


def test_pack_uses_an_open_idle_node_before_one_that_has_just_joined():
    """That a machine joined a moment ago does not make it open."""
    used = view("a", last_placed=1, idle_since_s=1.0)
    joined = closed("z", idle_since_s=2.0)

    assert chosen(Pack(), [joined, used], now_s=3.0) == "a"


def test_pack_prefers_the_node_that_went_idle_last():
    """The one that has been idle for longest is nearest to being switched off."""
    views = [view("a", last_placed=1, idle_since_s=1.0), view("b", last_placed=2, idle_since_s=2.0)]

    assert chosen(Pack(), views, now_s=3.0) == "b"


def run_open_loop(core, arrivals, seconds, look=lambda now: None):
    """Run tasks of equal length that come at given times; return nodes busy after each event."""
    ends: dict[int, float] = {}
    history = []
    times = list(arrivals)
    now = 0.0
    for _ in range(20 * len(times)):
        if not (times or ends or len(core.queue)):
            return history
        wake = core.next_wake_s
        now = max(now, min([*times[:1], *ends.values(), *([] if wake is None else [wake])]))
        while times and times[0] <= now:
            core.task_ready(task(len(times), now=times.pop(0)), now)
        for key in [key for key, end in ends.items() if end <= now]:
            core.task_ended(key, ends.pop(key), seconds=seconds)
        for key in keys(dispatch(core, now)):
            ends[key] = now + seconds
        look(now)
        history.append((now, {node.name for node in core.nodes if node.in_flight}))
    raise AssertionError(f"still busy at {now} s, woken again and again: {core}")


def test_pack_uses_as_many_nodes_as_the_load_needs_and_does_not_flap():
    """Twenty per second of 0.1 s need two threads: one node of four serves all of them."""
    core = dispatcher("pack", *(worker(f"n{i}", threads=4) for i in range(8)))

    history = run_open_loop(core, [i / 20 for i in range(200)], seconds=0.1)

    assert set().union(*(nodes for _, nodes in history)) == {"n0"}


def test_pack_drains_the_last_nodes_by_name_when_load_falls():
    """After a burst on all nodes, a trickle is served by the first node only."""
    core = dispatcher("pack", *(worker(f"n{i}", threads=2) for i in range(4)))
    burst = [0.0] * 80
    trickle = [4.0 + i / 10 for i in range(60)]

    history = run_open_loop(core, burst + trickle, seconds=0.15)

    assert {name for now, nodes in history if now < 1 for name in nodes} == {"n0", "n1", "n2", "n3"}
    assert len({name for now, nodes in history if now > 4 for name in nodes}) == 1


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40))
def test_pack_never_lets_a_task_wait_longer_than_the_target_beside_a_closed_node(offsets):
    """Whenever tasks come, a task that has waited for the target finds every node busy."""
    core = dispatcher("pack", *(worker(name, threads=2) for name in "abc"))
    waited_too_long = []

    def look(now):
        if any(not node.in_flight for node in core.nodes):
            waited = [now - entry.task.ready_s for entry in core.queue.entries()]
            waited_too_long.extend(each for each in waited if each >= 0.25)

    run_open_loop(core, sorted(offset / 100 for offset in offsets), seconds=0.7, look=look)

    assert waited_too_long == []
