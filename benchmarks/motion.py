"""What the tracking environment costs beside bare physics, and where a train step's time goes.

    python -m benchmarks.motion                         C engine, light humanoid and G1
    python -m benchmarks.motion --physics mjx --robots humanoid --batches 1 64 512
    python -m benchmarks.motion --part peer --batches 64 512       needs brax
    python -m benchmarks.motion --part train

Parts:

    steps   control steps per second of the environment (physics, observations, rewards, ends,
            new starts) against the bare engine doing the same substeps: `mujoco.batch`, timed
            inside the environment, or a scan of vmapped `mjx.step`. `overhead` is the extra share
            of time.
    peer    the same for a public environment on MJX, brax's humanoid; not part of `all`.
    train   one iteration of PPO whole, and its parts one after the other: acting and drawing
            starts, environment, counting outcomes for the sampler, learning.

Every measurement is a process of its own with a cold compile cache unless `--cached` is given;
compile times are wall time.
Writes benchmarks/results/motion_BACKEND.json, keeping the parts not measured this time.
"""

import argparse
import collections
import functools
import time
from collections.abc import Callable
from typing import Any

from benchmarks import measuring

SECONDS = 2.0
"""Least time a rate is measured over."""


def prepare(robot_name: str, num_envs: int, physics: str):
    import jax
    import jax.numpy as jnp

    from motion import builtin_clips
    from motion.clips import build_clip_bank
    from motion.env import EnvConfig, make_env
    from motion.formats.mjcf import load_robot
    from samplers.motion_bins import MotionTime

    robot = load_robot(robot_name)
    clip = builtin_clips.builtin_clip(robot, "squat")
    bank = build_clip_bank(robot, [clip], control_rate=robot.control_rate)
    env = make_env(robot, EnvConfig(), num_envs=num_envs, physics=physics)
    frames = jax.random.randint(jax.random.key(0), (num_envs,), 0, int(bank.clip_length[0]) - 1)
    starts = MotionTime(jnp.zeros(num_envs, jnp.int32), frames)
    return robot, bank, env, starts


def rate_of(step: Any, num_envs: int) -> float:
    """Control steps per second of a function that makes one for all copies."""
    step()
    step()
    count, began = 0, time.perf_counter()
    while count < 5 or time.perf_counter() - began < SECONDS:
        step()
        count += 1
    return num_envs * count / (time.perf_counter() - began)


def steps_on_c(robot_name: str, num_envs: int) -> dict[str, float]:
    import jax
    import jax.numpy as jnp

    robot, bank, env, starts = prepare(robot_name, num_envs, "c")
    key, action = jax.random.key(1), jnp.zeros((num_envs, robot.num_joints))
    began = time.perf_counter()
    state = env.reset(bank, key, starts)
    state, _ = env.step(bank, state, action, starts, key)
    compile_seconds = time.perf_counter() - began
    engine: Any = env.physics
    engine._batch = watched = _Watched(engine._batch)
    box = [state, 0]

    def step() -> None:
        box[1] += 1
        box[0], _ = env.step(bank, box[0], action, starts, jax.random.fold_in(key, box[1]))

    step()
    watched.seconds, watched.calls = 0.0, 0
    ours = rate_of(step, num_envs)
    bare = num_envs * watched.calls / watched.seconds
    return {"env": ours, "bare": bare, "overhead": bare / ours - 1, "compile": compile_seconds}


class _Watched:
    """MuJoCo's batch with a stop watch on its steps: the same robots in the same states."""

    def __init__(self, batch: Any):
        self._batch, self.seconds, self.calls = batch, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def step(self, **options: Any) -> None:
        began = time.perf_counter()
        self._batch.step(**options)
        self.seconds += time.perf_counter() - began
        self.calls += 1


def against_bare(
    environment: Any, bare: Any, physics_of: Callable[[Any], Any], state: Any, num_steps: int
) -> dict[str, float]:
    """Rates of two jitted programs that make the same number of control steps.

    Args:
      environment: state -> state.
      bare: what `physics_of` takes from a state -> anything; physics alone.
      num_steps: control steps of one call, all copies together.
    """
    import jax

    began = time.perf_counter()
    program = environment.lower(state).compile()
    compile_seconds = time.perf_counter() - began
    box = [state]

    def step() -> None:
        box[0] = jax.block_until_ready(program(box[0]))

    ours = rate_of(step, num_steps)
    physics = physics_of(box[0])
    began = time.perf_counter()
    peer = bare.lower(physics).compile()
    bare_compile = time.perf_counter() - began
    rate = rate_of(lambda: jax.block_until_ready(peer(physics)), num_steps)
    return {
        "env": ours,
        "bare": rate,
        "overhead": rate / ours - 1,
        "compile": compile_seconds,
        "bare compile": bare_compile,
    }


def steps_on_mjx(robot_name: str, num_envs: int, length: int = 10) -> dict[str, float]:
    import jax
    import jax.numpy as jnp
    from mujoco import mjx

    robot, bank, env, starts = prepare(robot_name, num_envs, "mjx")
    key = jax.random.key(1)
    action = jnp.zeros((num_envs, robot.num_joints))

    def whole(both):
        bank, state = both

        def one(state, number):
            return env.step(bank, state, action, starts, jax.random.fold_in(key, number))[0], None

        return bank, jax.lax.scan(one, state, jnp.arange(length))[0]

    model, data = mjx.put_model(robot.model), mjx.make_data(robot.model)
    control = jnp.tile(bank.qpos[:1, 7:], (num_envs, 1))

    def bare(now):
        def one(data, _):
            return jax.vmap(mjx.step, (None, 0))(model, data), None

        data_now = jax.vmap(lambda q, v, c: data.replace(qpos=q, qvel=v, ctrl=c))(*now, control)
        data_now = jax.lax.scan(one, data_now, None, length * robot.num_substeps)[0]
        return data_now.qpos, data_now.qvel

    def as_exact(now):
        with jax.default_matmul_precision("highest"):  # as the environment asks
            return bare(now)

    return against_bare(
        jax.jit(whole, donate_argnums=0),
        jax.jit(as_exact),
        lambda both: (both[1].now.qpos, both[1].now.qvel),
        (bank, env.reset(bank, key, starts)),
        num_envs * length,
    )


def steps_of_brax(num_envs: int, length: int = 10) -> dict[str, float]:
    import jax

    from benchmarks.peers import brax_humanoid

    environment, bare, state = brax_humanoid.make(num_envs, length)
    return against_bare(
        jax.jit(environment), jax.jit(bare), lambda state: state, state, num_envs * length
    )


def train_breakdown(robot_name: str, num_envs: int) -> dict[str, float]:
    """Seconds of each part of one iteration of 24 steps on the C engine, after warming up."""
    import jax

    from motion import ppo, starts, train_step

    robot, bank, env, _ = prepare(robot_name, num_envs, "c")
    sampler = starts.make_start_sampler(
        starts.DEFAULT,
        clip_frames=tuple(int(n) for n in bank.clip_length),
        batch_size=num_envs,
        frames_per_bin=robot.control_rate,
    )
    config = train_step.TrainConfig(ppo=ppo.PpoConfig())
    seconds: collections.Counter[str] = collections.Counter()

    def timed(name: str, part: Callable[..., Any]) -> Callable[..., Any]:
        """A part with a stop watch; waits for what it is given, then for what it gives."""

        def call(*arguments: Any, **named: Any) -> Any:
            jax.block_until_ready((arguments, named))
            began = time.perf_counter()
            result = jax.block_until_ready(part(*arguments, **named))
            seconds[name] += time.perf_counter() - began
            return result

        return call

    def seconds_of(step: Any, state: Any, repeats: int) -> tuple[float, Any]:
        began = time.perf_counter()
        for _ in range(repeats):
            state, metrics = step(key, bank, state)
            jax.block_until_ready(metrics)
        return (time.perf_counter() - began) / repeats, state

    rows, key, repeats = starts.rows_of(starts.DEFAULT), jax.random.key(0), 10
    parts = train_step.Parts(config, env, sampler, rows)
    apart = train_step.on_host(
        config.num_steps,
        choose=timed("acting, drawing starts", jax.jit(parts.choose)),
        step=timed("environment", env.step),
        count=timed("counting outcomes", jax.jit(parts.count)),
        learn=timed("learning", jax.jit(parts.learn, donate_argnums=2)),
    )
    state = train_step.init_state(config, env, sampler, key, bank)
    whole = train_step.make_train_step(config, env, sampler, rows)
    first, state = seconds_of(whole, state, 1)
    _, state = seconds_of(whole, state, 1)
    iteration, state = seconds_of(whole, state, repeats)
    _, state = seconds_of(apart, state, 2)
    seconds.clear()
    seconds_of(apart, state, repeats)
    return {
        "iteration": iteration,
        **{name: spent / repeats for name, spent in seconds.items()},
        "control steps per second": num_envs * config.num_steps / iteration,
        "first iteration": first,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("all", "steps", "train", "peer"), default="all")
    parser.add_argument("--physics", choices=("c", "mjx"), default="c")
    parser.add_argument("--robots", nargs="+", default=["humanoid", "g1"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16, 256, 1024])
    parser.add_argument(
        "--cached", action="store_true", help="take compiled programs of earlier runs"
    )
    parser.add_argument("--envs", type=int, default=256, help="copies in the part train")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    measure = steps_on_c if options.physics == "c" else steps_on_mjx
    for robot in options.robots:
        if options.part in ("steps", "all"):
            table = results.setdefault(f"steps {options.physics}", {}).setdefault(robot, {})
            for batch in options.batches:
                call = functools.partial(measure, robot, batch)
                table[str(batch)] = measuring.in_fresh_process(call, is_cold=not options.cached)
                if options.cached:
                    table[str(batch)]["is_cached"] = True
                print(robot, batch, table[str(batch)], flush=True)
        if options.part in ("train", "all"):
            call = functools.partial(train_breakdown, robot, options.envs)
            row = measuring.in_fresh_process(call, is_cold=not options.cached)
            results.setdefault(f"train c, {options.envs} copies", {})[robot] = row
            print(robot, row, flush=True)
    if options.part == "peer":
        table = results.setdefault("peer brax humanoid mjx", {})
        for batch in options.batches:
            call = functools.partial(steps_of_brax, batch)
            table[str(batch)] = measuring.in_fresh_process(call, is_cold=not options.cached)
            print("brax", batch, table[str(batch)], flush=True)
    before = measuring.stored("motion")
    kept = ("steps ", "peer ", "train ")
    parts = {name: part for name, part in before.items() if name.startswith(kept)}
    measuring.write("motion", {**parts, **results})


if __name__ == "__main__":
    main()
