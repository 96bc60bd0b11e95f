"""Runs killed at any moment go on and end bit for bit where one left alone does."""

import pytest

from benchmarks import faults


@pytest.mark.slow
@pytest.mark.parametrize(("job", "kills"), [("nerf", 8), ("voxels", 4), ("motion", 4)])
def test_a_run_killed_again_and_again_loses_nothing_beyond_its_last_checkpoint(
    tmp_path, job, kills
):
    counts = faults.kill_and_resume(job, tmp_path, num_kills=kills)
    assert counts["is_same_end"]
    assert counts["injected"] >= kills // 2  # a run may end before it is hit
    assert counts["lost"] == 0
