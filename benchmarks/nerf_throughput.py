"""What a train step and an image cost, and where the time of a train step goes.

The parts of a step are timed as programs of their own, on the rays, samples and gradients of a
field that has been trained for a while; "networks" is the field's forward and backward less its
encoding's, "host" a call with the same arguments that computes nothing. Fused into one program the
parts cost a little less than their sum, which "not attributed" (step less sum) shows.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks import measuring
from nerf import (
    fields,
    hash_encoding,
    images,
    losses,
    marching,
    occupancy,
    spaces,
    volume_rendering,
)
from nerf.optimizer import make_optimizer
from nerf.train_step import make_train_step
from samplers import pixels, registry
from samplers.base import Feedback
from scenes import backgrounds, posed_images
from scenes.rays import camera_rays, view_rays
from training import nerf_setup, runtime
from training.nerf_config import NerfJob
from training.nerf_evaluation import Evaluator
from training.nerf_setup import Setup

_SAMPLERS = ("uniform", "error_weighted", "error_map")


def first_step(job: NerfJob) -> dict[str, float | None]:
    """Starts a run as far as its first step; for a process that has done nothing else."""
    setup = nerf_setup.prepare(job)
    loaded = measuring.seconds_since_start()
    began = time.perf_counter()
    state, step = nerf_setup.begin(setup)
    compile_seconds = time.perf_counter() - began
    jax.block_until_ready(step(state, setup.data, setup.run_key))
    return {
        "imports_and_data_seconds": loaded,
        "compile_seconds": compile_seconds,
        "first_step_seconds": measuring.seconds_since_start(),
    }


def step_and_image(job: NerfJob, *, warmups: int, steps: int) -> dict[str, Any]:
    """Rates of the train step and of rendering a held-out view, and the step's parts."""
    setup, state = _trained(job, warmups)
    state, rows, durations = _timed_steps(setup, state, steps)
    seconds = float(np.median(durations))
    budget = job.train.marching.budget
    fill = sum(float(row.fill) for row in rows) / steps
    train = {
        "milliseconds_per_step": 1e3 * seconds,
        "fastest_and_slowest_tenth_milliseconds": [
            1e3 * float(value) for value in np.quantile(durations, (0.1, 0.9))
        ],
        "rays_per_second": sum(int(row.kept_rays) for row in rows) / steps / seconds,
        "samples_per_second": fill * budget / seconds,
        "fill": fill,
        "step_scale": float(rows[-1].step_scale),
        "occupied": float(rows[-1].occupied),
    }
    parts = _parts(setup, state)
    total = train["milliseconds_per_step"]
    parts["not attributed"] = total - sum(parts.values())
    samplers = {name: _sampler_cost(setup, name) for name in _SAMPLERS}
    return {
        "train": train,
        "parts_milliseconds": parts,
        "parts_share": {name: value / total for name, value in parts.items()},
        "sampler_milliseconds": samplers,
        "sampler_share": {name: sum(cost.values()) / total for name, cost in samplers.items()},
        "image": _image(setup, state),
        "peak_memory_mb": (runtime.peak_memory() or 0) / 2**20,
    }


def step_seconds(job: NerfJob, *, warmups: int, steps: int) -> float:
    """Median duration of a train step."""
    setup, state = _trained(job, warmups)
    return float(np.median(_timed_steps(setup, state, steps)[2]))


def _timed_steps(setup: Setup, state: Any, steps: int) -> tuple[Any, list[Any], list[float]]:
    """The last state, and the metrics and duration of each step."""
    step = make_train_step(setup.job.train, setup.sampler)
    rows, durations = [], []
    for _ in range(steps):
        began = time.perf_counter()
        state, row = jax.block_until_ready(step(state, setup.data, setup.run_key))
        durations.append(time.perf_counter() - began)
        rows.append(row)
    return state, jax.device_get(rows), durations


def _trained(job: NerfJob, warmups: int) -> tuple[Setup, Any]:
    setup = nerf_setup.prepare(job)
    state = nerf_setup.first_state(setup)
    step = make_train_step(job.train, setup.sampler)
    for _ in range(max(1, warmups)):
        state, _ = step(state, setup.data, setup.run_key)
    return setup, jax.block_until_ready(state)


def _image(setup: Setup, state: Any) -> dict[str, float]:
    posed, config = setup.scene.test, setup.job.train
    snapshot, render = images.snapshot(state), Evaluator(setup).render
    bounds = nerf_setup.bounds(posed)
    rows, cols = posed.rows, posed.cols

    def one():
        return render(snapshot, bounds, posed.cameras, 0, rows, cols, setup.background).color

    seconds = measuring.median_seconds(one, repeats=3, warmups=1)

    @jax.jit
    def needed(grid, rays):
        return marching.num_needed(
            marching.find_candidates(
                config.marching,
                config.occupancy,
                grid,
                bounds,
                rays,
                step=marching.shortest_step(config.marching, bounds),
                offset=jnp.full(rays.origins.shape[:1], 0.5),
            )
        )

    rays = jax.tree.map(
        lambda part: part.reshape(rows, cols, 3), view_rays(posed.cameras, 0, rows, cols)
    )
    samples = sum(
        int(needed(snapshot.grid, jax.tree.map(lambda part, row=row: part[row], rays)))
        for row in range(rows)
    )
    return {
        "seconds": seconds,
        "rows": rows,
        "cols": cols,
        "rays_per_second": rows * cols / seconds,
        "samples_per_second": samples / seconds,
    }


def _parts(setup: Setup, state: Any) -> dict[str, float]:
    """Milliseconds of the parts of one step."""
    config, data, params = setup.job.train, setup.data, state.params
    keys = jax.random.split(jax.random.key(7), 4)
    num_rays = config.rays_per_step
    rows, cols = data.pixels.images.shape[1:3]
    shortest = marching.shortest_step(config.marching, data.bounds)
    draw = jax.jit(setup.sampler.sample)(keys[0], state.sampler)
    offset = jax.random.uniform(keys[1], (num_rays,))

    @jax.jit
    def read_pixels(pixel_data, items):
        view, xy = pixels.pixel_centres(items, rows, cols)
        stored = posed_images.gather_at(pixel_data.images, view, xy)
        behind = backgrounds.background_colors(config.background, keys[2], num_rays)
        target = backgrounds.composite(stored, behind)
        return camera_rays(pixel_data.cameras, view, xy), behind, target

    @jax.jit
    def march(grid, rays, step):
        candidates = marching.find_candidates(
            config.marching,
            config.occupancy,
            grid,
            data.bounds,
            rays,
            step=step,
            offset=offset,
        )
        return marching.pack(config.marching, candidates, data.bounds)

    @jax.jit
    def place(rays, samples):
        directions = rays.directions[samples.ray]
        points = rays.origins[samples.ray] + samples.distance[:, None] * directions
        return spaces.to_unit(config.marching.space, data.bounds, points), directions

    @jax.jit
    def composite(density, color, samples, behind, target):
        def loss(density, color):
            weights = volume_rendering.weights_packed(
                density * samples.length, samples.ray, longest=config.marching.num_candidates
            )
            rendered = volume_rendering.composite_packed(
                weights, color, samples.distance, samples.ray, num_rays=num_rays
            )
            seen = volume_rendering.over_background(rendered, behind)
            return jnp.mean(losses.huber(seen, target))

        return jax.value_and_grad(loss, argnums=(0, 1))(density, color)

    encode = functools.partial(hash_encoding.hash_encode, config.field.encoding)
    evaluate = functools.partial(fields.evaluate, config.field)
    forward = jax.jit(encode)
    backward = jax.jit(lambda tables, unit, g: jax.vjp(lambda t: encode(t, unit), tables)[1](g))
    field = jax.jit(
        lambda params, unit, directions, g: jax.vjp(
            lambda params: tuple(evaluate(params, unit, directions)), params
        )[1](g)[0]
    )
    update_grid = jax.jit(
        lambda grid, params: occupancy.update(
            config.occupancy,
            keys[3],
            grid,
            functools.partial(fields.density, config.field, params),
            step=shortest,
        )
    )

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def learn(params, optimizer, gradient):
        norm = optax.tree.norm(gradient)
        adam = make_optimizer(config.optimizer, config.corrections)
        updates, optimizer = adam.update(gradient, optimizer, params)
        return optax.apply_updates(params, optax.tree.scale(1e-3, updates)), optimizer, norm

    rays, behind, target = read_pixels(data.pixels, draw.items)
    step = shortest * state.step_scale
    samples = march(state.grid, rays, step)
    unit, directions = place(rays, samples)
    values = jax.jit(evaluate)(params, unit, directions)
    ones = jnp.ones((unit.shape[0], config.field.encoding.num_outputs))
    _, by_sample = composite(values.density, values.color, samples, behind, target)
    tables = params["params"]["tables"]
    gradient = jax.block_until_ready(field(params, unit, directions, by_sample))
    learned: list[Any] = jax.tree.map(jnp.copy, [params, state.optimizer])

    def learn_again():
        params, optimizer, norm = learn(learned[0], learned[1], gradient)
        learned[:] = params, optimizer
        return params, optimizer, norm

    kept = [jax.tree.map(jnp.copy, state)]
    nothing = jax.jit(lambda state, data, key: state, donate_argnums=0)

    def call_only():
        kept[0] = nothing(kept[0], data, setup.run_key)
        return kept[0]

    def timed(call: Callable[[], Any]) -> float:
        return 1e3 * measuring.median_seconds(call)

    encode_forward = timed(lambda: forward(tables, unit))
    encode_backward = timed(lambda: backward(tables, unit, ones))
    whole = timed(lambda: field(params, unit, directions, by_sample))
    sampling = _sampler_cost(setup, setup.job.sampler.name)
    return {
        "encode forward": encode_forward,
        "encode backward (scatter)": encode_backward,
        "networks": whole - encode_forward - encode_backward,
        "march and pack": timed(lambda: march(state.grid, rays, step))
        + timed(lambda: place(rays, samples)),
        "composite and loss": timed(
            lambda: composite(values.density, values.color, samples, behind, target)
        ),
        "optimiser": timed(learn_again),
        "occupancy update": timed(lambda: update_grid(state.grid, params)) / config.occupancy_every,
        "pixels and rays": timed(lambda: read_pixels(data.pixels, draw.items)),
        "sampler": sum(sampling.values()),
        "host": timed(call_only),
    }


def _sampler_cost(setup: Setup, name: str) -> dict[str, float]:
    """Milliseconds of a draw and of an update, the state donated as in the train step."""
    train, count = setup.scene.train, setup.job.train.rays_per_step
    sampler = registry.make_ray_sampler(
        name, num_views=train.num_views, rows=train.rows, cols=train.cols, batch_size=count
    )
    kept = [sampler.init(jax.random.key(0))]
    draw, update = jax.jit(sampler.sample), jax.jit(sampler.update, donate_argnums=0)
    drawn = draw(jax.random.key(1), kept[0])
    feedback = Feedback(value=jnp.linspace(0.0, 1.0, count), valid=jnp.ones(count, bool))

    def update_again():
        kept[0] = update(kept[0], drawn, feedback)
        return kept[0]

    return {
        "draw": 1e3 * measuring.median_seconds(lambda: draw(jax.random.key(1), kept[0])),
        "update": 1e3 * measuring.median_seconds(update_again),
    }
