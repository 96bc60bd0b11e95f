"""The train step on eight virtual CPU devices, in a process of its own."""

import pytest

from tests.on_devices import run_checks


@pytest.mark.slow
def test_eight_devices_make_the_step_of_one():
    run_checks("tests.nerf.device_checks", "fast")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["samplers", "settings"])
def test_eight_devices_make_the_step_of_one_with(part):
    run_checks("tests.nerf.device_checks", part, timeout=1800)
