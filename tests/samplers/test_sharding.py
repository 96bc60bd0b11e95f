"""The sharded pyramid on eight virtual CPU devices, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from samplers.registry import make_ray_sampler
from samplers.sharded_rays import make_sharded_ray_sampler


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


def test_weights_by_the_errors_met_are_those_of_the_device():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sizes = {"num_views": 2, "rows": 8, "cols": 8, "batch_size": 16, "options": {}}
    split = make_sharded_ray_sampler("soft_mining", mesh=mesh, axis="data", **sizes)
    single = make_ray_sampler("soft_mining", **sizes)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3)), jnp.uint8)
    key, errors = jax.random.key(1), jnp.linspace(0.01, 0.5, 16)
    states = [sampler.init(key, images) for sampler in (split, single)]
    states = [state._replace(step=jnp.full_like(state.step, 1000)) for state in states]
    draws = [s.sample(key, state) for s, state in zip((split, single), states, strict=True)]
    weights = split.reweigh(states[0], draws[0], errors)
    np.testing.assert_allclose(weights, single.reweigh(states[1], draws[1], errors), rtol=1e-6)
    assert float(weights[0]) > 1.5 * float(weights[-1])
