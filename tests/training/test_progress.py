"""What is said while a run works, where there is no terminal."""

import pytest

from training.progress import LateRate, ProgressView, duration


@pytest.mark.parametrize(
    ("total", "seconds", "expected"),
    [
        (20, None, "job: step 15/20  fast  50 s left"),  # 10 steps took 100 s since the resume
        (20, 130.0, "job: step 15/20  fast  30 s left"),
        (None, 400.0, "job: step 15  fast  5 min 00 s left"),
        (None, None, "job: step 15  fast"),
    ],
)
def test_time_left_counts_from_where_this_process_began(capsys, total, seconds, expected):
    with ProgressView(total, title="job", seconds=seconds) as view:
        view.start_at(5, 0.0)
        view.update(15, train_seconds=100.0, status="fast")
    assert capsys.readouterr().out.strip() == expected


def test_lines_come_seldom_but_the_last_always(capsys):
    with ProgressView(100, title="job") as view:
        for step in range(1, 101):
            view.update(step, train_seconds=float(step), status="")
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    assert "100/100" in lines[-1]


def test_a_step_that_was_done_already_does_not_count_as_done_in_no_time():
    rate = LateRate(10.0, 1000)
    assert rate.add(11.0, 1500) == pytest.approx(500)
    assert rate.add(11.0001, 2000) == pytest.approx(1000, rel=1e-3)
    for second in range(12, 20):
        last = rate.add(float(second), 2000 + 500 * (second - 11))
    assert last == pytest.approx(500)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "0 s"), (59.6, "1 min 00 s"), (7500, "2 h 05 min"), (-1, "0 s")]
)
def test_durations_read_like_durations(seconds, words):
    assert duration(seconds) == words
