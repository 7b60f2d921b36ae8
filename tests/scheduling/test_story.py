"""What happened to the last few thousand tasks."""

from __future__ import annotations

from sage_dask.scheduling.story import Chapter, Stories


def test_chapters_are_told_in_order():
    """First things first, each with its reason."""
    stories = Stories(4)
    stories.add("a", 1.0, "queued")
    stories.add("a", 2.0, "started on n1", "its turn")

    assert [str(each) for each in stories.of("a")] == ["queued", "started on n1 (its turn)"]


def test_a_task_that_was_never_heard_of_has_no_story():
    """That is an empty one, not an error."""
    assert Stories(4).of("a") == []


def test_the_tasks_last_heard_of_are_kept():
    """A task that something happens to stays; the one that is quiet for longest goes."""
    stories = Stories(2)
    stories.add("a", 1.0, "queued")
    stories.add("b", 2.0, "queued")
    stories.add("a", 3.0, "done")
    stories.add("c", 4.0, "queued")

    assert stories.of("b") == []
    assert len(stories.of("a")) == 2
    assert list(stories.find(lambda key: True)) == ["c", "a"]


def test_a_long_story_keeps_its_beginning_and_its_end():
    """A task that is lost a thousand times takes no more room than one lost sixty-four times."""
    stories = Stories(2)
    for number in range(1000):
        stories.add("a", float(number), f"lost {number}")

    story = stories.of("a")

    assert len(story) == 64
    assert story[0] == Chapter(0.0, "lost 0")
    assert story[-1] == Chapter(999.0, "lost 999")
    assert [each.at_s for each in story] == sorted(each.at_s for each in story)


def test_keys_are_found_by_what_they_match():
    """The latest first."""
    stories = Stories(9)
    for key in ("embed-1", "rerank-1", "embed-2"):
        stories.add(key, 0.0, "queued")

    assert list(stories.find(lambda key: "embed" in key)) == ["embed-2", "embed-1"]


def test_what_is_returned_is_a_copy():
    """A reader can not change the story."""
    stories = Stories(2)
    stories.add("a", 1.0, "queued")

    stories.of("a").clear()

    assert len(stories.of("a")) == 1
