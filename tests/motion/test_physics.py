"""One environment, two physics: MJX agrees with the C engine over rollouts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from motion.env import EnvConfig, make_env
from motion.physics import make_physics
from samplers.motion_bins import MotionTime

from .tiny import tiny_bank, tiny_robot

ENVS = 4
ROBOT = tiny_robot()
BANK = tiny_bank(ROBOT)
KEY = jax.random.key(1)


def starts(step):
    frame = (jnp.arange(ENVS, dtype=jnp.int32) * 5 + step) % 40
    return MotionTime(jnp.zeros(ENVS, jnp.int32), frame)


@pytest.mark.slow
def test_mjx_and_c_agree_over_a_rollout_with_resets_and_mjx_traces_once():
    config = EnvConfig(episode_seconds=0.3, push_seconds=(0.1, 0.3))
    host, traced = (make_env(ROBOT, config, num_envs=ENVS, physics=name) for name in ("c", "mjx"))
    count = 0

    def run(bank, state, action, begin, key):
        nonlocal count
        count += 1
        return traced.step(bank, state, action, begin, key)

    step = jax.jit(run)
    a = host.reset(BANK, KEY, starts(0))
    b = jax.jit(traced.reset)(BANK, KEY, starts(0))
    overs = 0
    for number in range(40):
        key = jax.random.fold_in(KEY, number)
        action = jax.random.normal(key, (ENVS, ROBOT.num_joints))
        a, x = host.step(BANK, a, action, starts(number), key)
        b, y = step(BANK, b, action, starts(number), key)
        np.testing.assert_allclose(a.now.qpos, b.now.qpos, atol=2e-4)
        np.testing.assert_allclose(a.now.qvel, b.now.qvel, atol=1e-2)
        for p, q in zip(a.now.bodies, b.now.bodies, strict=True):
            np.testing.assert_allclose(p, q, atol=1e-2)
        np.testing.assert_allclose(a.observation.actor, b.observation.actor, atol=1e-2)
        np.testing.assert_allclose(x.reward, y.reward, atol=2e-3)
        np.testing.assert_array_equal(x.terminated, y.terminated)
        np.testing.assert_array_equal(x.timed_out, y.timed_out)
        overs += int(jnp.sum(x.terminated | x.timed_out))
    assert overs > ENVS
    assert count == 1


def test_physics_are_named():
    with pytest.raises(ValueError, match="c, mjx"):
        make_physics("bullet", ROBOT, 2)
    with pytest.raises(ValueError, match="num_envs"):
        make_physics("c", ROBOT, 0)
