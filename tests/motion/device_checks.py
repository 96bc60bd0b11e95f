"""Run by test_devices in a process of its own with four CPU devices."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from motion import normalisation, ppo
from motion.networks import NetworkConfig
from motion.ppo import PpoConfig, Rollout
from samplers.device_axis import AXIS, axis_of

MESH = jax.make_mesh((4,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
STEPS, ENVS = 6, 8


def made_up_rollout() -> Rollout:
    """Numbers of no robot; some rows end, some fail, one observation is not finite."""
    random = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(random.normal(size=(STEPS, ENVS, *shape)), jnp.float32)

    failed = jnp.asarray(random.uniform(size=(STEPS, ENVS)) < 0.1)
    return Rollout(
        actor=normal(5).at[0, 0, 0].set(jnp.inf),
        critic=normal(7) + 3.0,
        action=normal(2),
        log_prob=normal() - 2.0,
        mean=normal(2),
        reward=normal() * 2.0 + 1.0,
        terminated=failed,
        is_over=failed | jnp.asarray(random.uniform(size=(STEPS, ENVS)) < 0.1),
        final_critic=normal(7) + 3.0,
    )


def check_learning():
    """With one minibatch per epoch the order of rows does not matter: all must come out equal."""
    config = PpoConfig(num_epochs=3, num_minibatches=1, network=NetworkConfig(hidden=(8,)))
    learner = ppo.init_learner(
        config, jax.random.key(0), actor_size=5, critic_size=7, num_actions=2
    )
    rollout, key, axis = made_up_rollout(), jax.random.key(1), axis_of(MESH)
    rollout = rollout._replace(actor=jnp.nan_to_num(rollout.actor, posinf=0.0))
    one, metrics = jax.jit(functools.partial(ppo.learn, config))(key, learner, rollout)
    shared, others = jax.jit(
        jax.shard_map(
            lambda key, learner, rollout: ppo.learn(config, key, learner, rollout, axis=axis),
            mesh=MESH,
            in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(None, AXIS)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )(key, learner, rollout)
    for name, value in metrics.items():
        np.testing.assert_allclose(others[name], value, rtol=1e-3, atol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(shared), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


def check_moments():
    batch = made_up_rollout().actor
    before = normalisation.init_moments(5)
    shared = jax.jit(
        jax.shard_map(
            lambda rows: normalisation.merge(before, rows, axis=axis_of(MESH)),
            mesh=MESH,
            in_specs=PartitionSpec(None, AXIS),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )(batch)
    for a, b in zip(normalisation.merge(before, batch), shared, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def check_step():
    """Whole iterations with MJX: every environment is counted, and none is another's copy."""
    from motion import starts, train_step
    from motion.clips import build_clip_bank
    from motion.env import EnvConfig, make_env
    from motion.train_step import TrainConfig
    from samplers import failure_bins
    from training import devices

    from .tiny import swaying_clip, tiny_robot

    config = TrainConfig(
        num_steps=STEPS,
        first_leniency=2.0,
        lenient_iterations=2,
        ppo=PpoConfig(
            num_epochs=1, num_minibatches=2, noise_steps=2, network=NetworkConfig(hidden=(8,))
        ),
    )
    robot = tiny_robot()
    clips = [swaying_clip(robot), swaying_clip(robot, name="again", seconds=1.0)]
    bank = build_clip_bank(robot, clips, control_rate=50.0)
    env = make_env(robot, EnvConfig(start_noise=0.2), num_envs=ENVS, physics="mjx")
    plain = starts.make_start_sampler(
        "failure_bins", clip_frames=(95, 45), batch_size=ENVS, frames_per_bin=25
    )
    with pytest.raises(ValueError, match="axis_name"):
        train_step.make_train_step(config, env, plain, "steps", MESH)
    sampler = failure_bins.make(dataclasses.replace(plain.config, axis_name=AXIS))
    host = make_env(robot, EnvConfig(), num_envs=ENVS, physics="c")
    with pytest.raises(ValueError, match="one device"):
        train_step.make_train_step(config, host, sampler, "steps", MESH)
    step = train_step.make_train_step(config, env, sampler, "steps", MESH)
    state = train_step.init_state(config, env, sampler, jax.random.key(0), bank)
    state = devices.spread_from_first(state, MESH, train_step.STATE_SPECS)
    key, bank = devices.spread((jax.random.key(5), bank), MESH)
    for _ in range(2):
        state, metrics = step(key, bank, state)
    assert step._cache_size() == 1
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert int(state.iteration) == 2
    lengths = np.asarray(state.sampler.layout.num_frames)
    decays = sampler.config.decay ** np.arange(2 * STEPS)
    passes = float(np.sum(np.asarray(state.sampler.exposure) * lengths))
    assert abs(passes / decays.sum() - 1.0) < 1e-4
    noise = np.asarray(state.env.action)
    assert len(np.unique(noise, axis=0)) == ENVS
    for part in (state.learner, state.sampler):
        for leaf in jax.tree.leaves(part):
            copies = [np.asarray(shard.data).tobytes() for shard in leaf.addressable_shards]
            assert len(set(copies)) == 1
    whole = devices.whole(state)
    assert isinstance(whole.env.frame, np.ndarray)
    assert whole.env.frame.shape == (ENVS,)


def main():
    if sys.argv[1] == "fast":
        check_learning()
        check_moments()
    else:
        check_step()
    print("passed")


if __name__ == "__main__":
    main()
