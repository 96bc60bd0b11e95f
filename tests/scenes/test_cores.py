"""Cores are those of the process, and what starts threads counts them when it starts them."""

import os

import pytest

from scenes import cores as counting
from scenes.cores import cores
from scenes.formats import pictures

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="the system does not say"
)


@needs_affinity
def test_cores_are_those_the_process_was_given(monkeypatch):
    assert cores() == sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 3})
    assert cores() == [3, 5]


def test_all_cores_count_where_the_system_does_not_say(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(counting.os, "cpu_count", lambda: 3)
    assert cores() == [0, 1, 2]
    monkeypatch.setattr(counting.os, "cpu_count", lambda: None)
    assert cores() == [0]


@needs_affinity
@pytest.mark.parametrize(("given", "expected"), [({2}, 1), (set(range(64)), 8)])
def test_images_are_read_in_no_more_threads_than_there_are_cores(monkeypatch, given, expected):
    counts = []
    plain = pictures.ThreadPoolExecutor

    def counted(count):
        counts.append(count)
        return plain(count)

    monkeypatch.setattr(pictures, "ThreadPoolExecutor", counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: given)
    assert pictures.in_threads(abs, [-1, 2]) == [1, 2]
    assert counts == [expected]
