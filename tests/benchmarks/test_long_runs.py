"""Long runs, in small: nothing is compiled twice, sums stay exact, memory has no trend.

A run that kept what it drew would grow by the size of a draw per update, one that kept its states
by the size of a state per step; a tenth of a draw and a fiftieth of a state are less than any such
leak and more than what the allocator moves.
"""

import functools

import pytest

from benchmarks import long_runs, measuring

_SHARE = 0.1


def _assert_steady(found):
    assert found["programs"] == 1
    assert found["compiled_after_first_call"] == 0
    assert found["memory"]["slope"] < _SHARE * found["bytes_of_a_draw"]


@pytest.mark.slow
def test_error_weighted_keeps_its_program_its_root_and_its_memory():
    call = functools.partial(long_runs.watch_pyramid, 4000, num_items=2**15, batch_size=1024)
    found = measuring.in_fresh_process(call)
    _assert_steady(found)
    assert found["largest_error_of_root"] < 1e-5
    assert found["error_of_sum_of_probabilities"] < 1e-5


@pytest.mark.slow
def test_failure_bins_keep_their_program_their_counts_and_their_memory():
    found = measuring.in_fresh_process(functools.partial(long_runs.watch_bins, 4000))
    _assert_steady(found)
    assert found["largest_error_of_counts"] < 1e-5
    assert found["least_probability_over_floor"] > 1.0 - 1e-5


@pytest.mark.slow
def test_a_radiance_field_keeps_its_programs_and_its_memory():
    found = measuring.in_fresh_process(functools.partial(long_runs.watch_nerf, 0.5))
    assert found["compiled_after_warm_up"] == 0
    state_bytes = found["bytes"]["checkpoints"] / found["bytes"]["num_checkpoints"]
    assert found["memory"]["growth"] < 0.02 * state_bytes * 0.8 * found["steps"]
