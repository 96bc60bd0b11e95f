"""Learning and whole iterations on four virtual CPU devices, in a process of its own."""

import pytest

from tests.on_devices import run_checks


@pytest.mark.slow
def test_learning_from_a_split_rollout_is_learning_from_the_whole():
    run_checks("tests.motion.device_checks", "fast", num_devices=4)


@pytest.mark.slow
def test_iterations_with_mjx_count_every_environment_of_every_device():
    run_checks("tests.motion.device_checks", "slow", num_devices=4, timeout=1800)
