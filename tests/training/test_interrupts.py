"""A request to stop is answered once the work at hand is whole."""

import os
import signal

import pytest

from training.interrupts import StopRequest


def _work(signals, done):
    """Receives `signals` under a `StopRequest` and then notes that it got to the end."""
    with StopRequest():
        for each in signals:
            os.kill(os.getpid(), each)
        done.append("work")


def test_a_stop_nobody_looked_at_ends_the_process_after_the_work():
    done = []
    with pytest.raises(SystemExit) as ended:
        _work([signal.SIGTERM], done)
    assert ended.value.code == 130
    assert done == ["work"]


def test_work_that_fails_says_why_even_when_asked_to_stop():
    with pytest.raises(AttributeError, match="append"):
        _work([signal.SIGINT], done=None)


def test_the_second_request_insists():
    done = []
    with pytest.raises(KeyboardInterrupt):
        _work([signal.SIGINT, signal.SIGINT], done)
    assert not done
