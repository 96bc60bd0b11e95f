"""The sharded pyramid on eight virtual CPU devices, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def test_sharded_draws_and_writes_agree_with_a_single_pyramid():
    root = Path(__file__).parents[2]
    env = dict(os.environ)
    env["XLA_FLAGS"] = env.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    env["JAX_PLATFORMS"] = "cpu"
    done = subprocess.run(
        [sys.executable, "-m", "tests.samplers.sharded_checks"],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "sharded checks passed" in done.stdout
