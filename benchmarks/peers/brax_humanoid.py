"""Brax's humanoid on MJX: a public JAX environment, and what it adds to the physics under it.

Brax (Freeman et al. 2021, package `brax`, Apache-2.0) is used as its training script does: vmapped,
with its episode and auto-reset wrappers. Its humanoid is simpler than ours (17 motors, 5 substeps
of 3 ms, no reference to follow), so what compares is the share of time above bare `mjx.step` of the
same model, not steps per second.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def make(num_envs: int, length: int) -> tuple[Callable[..., Any], Callable[..., Any], Any]:
    """Makes both programs of `length` control steps, and a state for them.

    Returns:
      (environment, bare, state); both map a state to a state, `bare` by physics alone.
    Raises:
      ImportError: naming the package to install.
    """
    try:
        from brax import envs
        from brax.envs.wrappers import training
        from mujoco import mjx
    except ImportError as error:
        raise ImportError(f"pip install brax ({error})") from error
    env = envs.get_environment("humanoid", backend="mjx")
    wrapped = training.wrap(env, episode_length=1000)
    # its wrappers know old-style keys only
    keys = jax.random.key_data(jax.random.split(jax.random.key(0), num_envs))
    state = jax.jit(wrapped.reset)(keys)
    action = jnp.zeros((num_envs, env.action_size))

    def environment(state: Any) -> Any:
        return jax.lax.scan(lambda s, _: (wrapped.step(s, action), None), state, None, length)[0]

    def bare(state: Any) -> Any:
        data = mjx.make_data(env.sys)
        now = state.pipeline_state
        data = jax.vmap(lambda q, v: data.replace(qpos=q, qvel=v))(now.qpos, now.qvel)

        def one(data: Any, _: None) -> tuple[Any, None]:
            return jax.vmap(mjx.step, (None, 0))(env.sys, data), None

        data = jax.lax.scan(one, data, None, length * env._n_frames)[0]
        return data.qpos, data.qvel

    return environment, bare, state
