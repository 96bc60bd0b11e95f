"""The viewer of radiance fields while visitors come and go: its threads, and who shows cameras."""

import sys
import threading
import time
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from training import loaded_run, viewer, viewer_frusta

PATIENCE = 10.0


@pytest.fixture
def server(monkeypatch):
    """Stands in for viser's."""
    stand_in = mock.MagicMock()
    stand_in.get_port.return_value = 1
    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace(ViserServer=lambda **_: stand_in))
    return stand_in


@pytest.fixture
def served(finished, server, monkeypatch):
    """A viewer that draws black pictures."""
    monkeypatch.setattr(viewer.Viewer, "draw", lambda *_, **__: np.zeros((2, 2, 3), np.uint8))
    return viewer.Viewer(loaded_run.load(str(finished[0])), host="127.0.0.1", port=1, size=32)


def visitor(number):
    camera = SimpleNamespace(
        wxyz=np.array([1.0, 0.0, 0.0, 0.0]), aspect=1.0, on_update=lambda function: None
    )
    return SimpleNamespace(client_id=number, camera=camera, scene=mock.MagicMock())


def welcomed(served, server, client):
    """The thread that draws for a visitor who has come."""
    server.get_clients.return_value[client.client_id] = client
    before = set(threading.enumerate())
    served._welcome(client)
    (thread,) = set(threading.enumerate()) - before
    return thread


def wait_for(is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_nothing_is_kept_of_a_visitor_who_has_gone(served, server):
    server.get_clients.return_value = {}
    first, second = visitor(1), visitor(2)
    threads = [welcomed(served, server, client) for client in (first, second)]
    for client in (first, second):  # one coarse picture, then a sharp one
        wait_for(lambda c=client: c.scene.set_background_image.call_count == 2)
    (leave,) = server.on_client_disconnect.call_args.args
    del server.get_clients.return_value[1]
    leave(first)
    threads[0].join(PATIENCE)
    assert not threads[0].is_alive()
    assert list(served._moved) == [2]
    assert first.scene.set_background_image.call_count == 2
    served._redraw()
    wait_for(lambda: second.scene.set_background_image.call_count == 4)
    served.stop()
    threads[1].join(PATIENCE)
    assert not threads[1].is_alive()
    assert not served._moved


def test_a_visitor_who_leaves_at_once_is_not_waited_for(served, server):
    server.get_clients.return_value = {}
    before = set(threading.enumerate())
    served._welcome(visitor(1))
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert not served._moved


def test_cameras_are_shown_by_one_thread_at_a_time(finished, server, monkeypatch):
    run = loaded_run.load(str(finished[0]))
    begun, may_end, standing, chosen = threading.Event(), threading.Event(), set(), ["photographs"]

    def stand(name, **_):
        assert name not in standing
        standing.add(name)
        return mock.MagicMock(remove=lambda: standing.remove(name))

    def images(self, mode):
        begun.set()
        assert may_end.wait(PATIENCE)
        return [np.zeros((2, 2, 3), np.uint8)] * run.setup.scene.train.num_views

    server.scene.add_camera_frustum.side_effect = stand
    monkeypatch.setattr(viewer_frusta.Frusta, "images", images)
    frusta = viewer_frusta.Frusta(server, lambda: run, lambda: chosen[0], threading.Lock())
    threads = [threading.Thread(target=frusta.show) for _ in range(2)]
    threads[0].start()
    assert begun.wait(PATIENCE)
    threads[1].start()
    chosen[0] = "none"  # before the second thread has its turn
    may_end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not standing
    assert not frusta._handles
    assert server.scene.add_camera_frustum.call_count == run.setup.scene.train.num_views
