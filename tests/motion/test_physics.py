"""One environment, several physics: MJX and Warp agree with the C engine over rollouts."""

import copy
import dataclasses
import importlib.util

import jax
import jax.numpy as jnp
import jaxlib
import mujoco
import numpy as np
import pytest

from motion.builtin_clips import builtin_clip
from motion.clips import build_clip_bank
from motion.env import EnvConfig, make_env
from motion.physics import make_physics
from motion.physics.warp_engine import most_contacts
from motion.robots import humanoid_robot
from samplers.motion_bins import MotionTime
from tests.precision import count_products

from .tiny import tiny_bank, tiny_robot

ENVS = 4
ROBOT = tiny_robot()
BANK = tiny_bank(ROBOT)
KEY = jax.random.key(1)


def starts(step):
    frame = (jnp.arange(ENVS, dtype=jnp.int32) * 5 + step) % 40
    return MotionTime(jnp.zeros(ENVS, jnp.int32), frame)


needs_warp = pytest.mark.skipif(
    importlib.util.find_spec("warp") is None, reason="needs the package warp-lang"
)


@pytest.mark.slow
@pytest.mark.parametrize("physics", ["mjx", pytest.param("warp", marks=needs_warp)])
def test_physics_agree_with_c_over_a_rollout_with_resets_and_are_traced_once(physics):
    config = EnvConfig(episode_seconds=0.3, push_seconds=(0.1, 0.3))
    host, traced = (make_env(ROBOT, config, num_envs=ENVS, physics=name) for name in ("c", physics))
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


@pytest.mark.slow
def test_mjx_walks_the_humanoid_as_the_c_engine_does():
    """The whole body through contacts, pushes and random actions, until rounding has grown."""
    robot = humanoid_robot()
    clips = [builtin_clip(robot, name) for name in ("squat", "step")]
    bank = build_clip_bank(robot, clips, control_rate=robot.control_rate)
    config = EnvConfig(push_seconds=(0.1, 0.2))
    host, traced = (make_env(robot, config, num_envs=2, physics=name) for name in ("c", "mjx"))
    begin = MotionTime(jnp.array([0, 1], jnp.int32), jnp.array([40, 60], jnp.int32))
    step = jax.jit(traced.step)
    a = host.reset(bank, KEY, begin)
    b = jax.jit(traced.reset)(bank, KEY, begin)
    first = np.asarray(a.now.qpos)
    for number in range(15):
        key = jax.random.fold_in(KEY, number)
        action = 0.5 * jax.random.normal(key, (2, robot.num_joints))
        a, x = host.step(bank, a, action, begin, key)
        b, y = step(bank, b, action, begin, key)
        np.testing.assert_allclose(a.now.qpos, b.now.qpos, atol=3e-3)
        np.testing.assert_allclose(a.now.bodies.position, b.now.bodies.position, atol=3e-3)
        np.testing.assert_allclose(x.reward, y.reward, atol=2e-3)
        np.testing.assert_array_equal(x.terminated, y.terminated)
    assert np.abs(np.asarray(a.now.qpos) - first).max() > 0.1


def test_mjx_keeps_all_bits_of_float32_on_accelerators():
    env = make_env(ROBOT, EnvConfig(), num_envs=ENVS, physics="mjx")
    action = jnp.zeros((ENVS, env.num_actions))

    def run(key):
        state = env.reset(BANK, key, starts(0))
        return env.step(BANK, state, action, starts(0), key)

    count, inexact = count_products(run, KEY)
    assert (count > 0, inexact) == (True, 0)


def test_physics_are_named():
    with pytest.raises(ValueError, match="c, mjx, warp"):
        make_physics("bullet", ROBOT, 2)
    with pytest.raises(ValueError, match="num_envs"):
        make_physics("c", ROBOT, 0)


def test_mjx_refuses_copies_that_old_jaxlib_would_never_finish(monkeypatch):
    many = int(2e5 / (ROBOT.model.nv**3 / 3)) + 1
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    for name in ("NPROC", "PJRT_NPROC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jaxlib, "__version__", "0.10.2")
    make_physics("mjx", ROBOT, many - 1)
    with pytest.raises(ValueError, match=r"jaxlib 0\.10\.2.*physics c.*PJRT_NPROC=1"):
        make_physics("mjx", ROBOT, many)
    with monkeypatch.context() as one_thread:
        one_thread.setenv("PJRT_NPROC", "1")
        make_physics("mjx", ROBOT, many)
    monkeypatch.setattr(jaxlib, "__version__", "0.12.0.dev1")
    make_physics("mjx", ROBOT, many)


def test_warp_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"hardlight\[warp\]"):
        make_physics("warp", ROBOT, 2)


def test_warp_makes_room_for_every_contact_and_refuses_what_it_cannot_count():
    assert most_contacts(ROBOT) == 2  # two spheres
    assert most_contacts(tiny_robot(collision="floor")) == 4  # and a capsule
    touching = tiny_robot(collision="file")
    with pytest.raises(ValueError, match="contacts with the floor only"):
        most_contacts(touching)
    boxed = copy.copy(ROBOT.model)
    boxed.geom_type[boxed.pair_geom1] = mujoco.mjtGeom.mjGEOM_MESH
    with pytest.raises(ValueError, match="take physics mjx or c"):
        most_contacts(dataclasses.replace(ROBOT, model=boxed))
