"""Run by test_devices in a process of its own with eight CPU devices."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from nerf import depth, train_step
from nerf.view_corrections import CorrectionConfig
from samplers.device_axis import AXIS, DeviceAxis, axis_of, jit_step
from tests.statistics import assert_mean_close
from tests.training.conftest import TINY
from training import nerf_setup
from training.nerf_config import NerfJob
from training.sampler_config import SamplerConfig, SamplerOption

MESH = jax.make_mesh((8,), (AXIS,), axis_types=(jax.sharding.AxisType.Auto,))
EAGER = SamplerConfig(name="error_weighted", options=(SamplerOption(name="warmup_steps", value=2),))


def job(sampler=EAGER, budget=4096, **changes) -> NerfJob:
    """The tiny job with room for every sample, so that no ray is left out anywhere."""
    marching = dataclasses.replace(TINY.train.marching, budget=budget)
    train = dataclasses.replace(TINY.train, marching=marching, **changes)
    return dataclasses.replace(TINY, train=train, sampler=sampler)


class Run:
    """A job on one device or on eight."""

    def __init__(self, job, mesh):
        self.mesh = mesh
        self.setup = nerf_setup.prepare(job, mesh=mesh)
        self._step = train_step.make_train_step(self.setup.job.train, self.setup.sampler, mesh)
        self._first = jax.device_get(nerf_setup.first_state(self.setup))

    def steps(self, count, seed=0):
        """The state after so many steps, and the metrics of each."""
        key = jax.random.key(seed)
        state = jax.tree.map(jnp.asarray, self._first)
        if self.mesh is not None:
            state, key = jax.device_put((state, key), NamedSharding(self.mesh, PartitionSpec()))
        history = []
        for _ in range(count):
            state, metrics = self._step(state, self.setup.data, key)
            history.append(jax.device_get(metrics))
        return state, history


def check_axis():
    axis = axis_of(MESH)
    rows = jnp.arange(48.0).reshape(24, 2)

    def step(rows):
        here = jax.lax.axis_index(AXIS)
        own = axis.own(rows)
        return {
            "whole": axis.whole(own),
            "squares": axis.spread(jnp.square, rows[:5]),
            "sum": axis.sum(jnp.sum(own)),
            "once": axis.sum(axis.once(jnp.float32(3.0))),
            "first": axis.from_first(here + 10),
            "keys": axis.whole(jax.random.bits(axis.own_key(jax.random.key(0)), (1,))),
        }

    found = jit_step(step, MESH, donate_argnums=())(rows)
    np.testing.assert_array_equal(found["whole"], rows)
    np.testing.assert_array_equal(found["squares"], jnp.square(rows[:5]))
    assert float(found["sum"]) == float(rows.sum())
    assert float(found["once"]) == 3.0
    assert int(found["first"]) == 10
    assert len(set(np.asarray(found["keys"]).tolist())) == 8
    with pytest.raises(ValueError, match="split 6 rows over 8"):
        jit_step(axis.own, MESH, donate_argnums=())(rows[:6])
    with pytest.raises(ValueError, match="name"):
        DeviceAxis(size=2)


def check_equal(job, count=10, tolerance=2e-4):
    """Every quantity of the state and every metric, on eight devices and on one."""
    one, many = Run(job, None), Run(job, MESH)
    check_alone_is_alone(one)
    _check_gradient(one, many)
    alone, metrics = one.steps(count)
    shared, others = many.steps(count)
    for name in metrics[0]._fields:
        a, b = (np.array([getattr(row, name) for row in rows]) for rows in (metrics, others))
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-6, err_msg=name)
    pairs = zip(jax.tree_util.tree_leaves_with_path(alone), jax.tree.leaves(shared), strict=True)
    for (path, a), b in pairs:
        copies = [np.asarray(shard.data) for shard in b.addressable_shards]
        assert len(copies) == 8
        name = jax.tree_util.keystr(path)
        if ".sampler" not in name:  # the others' samplers are never asked
            assert all(copy.tobytes() == copies[0].tobytes() for copy in copies), name
        scale = max(1.0, float(np.max(np.abs(np.asarray(a, np.float64)), initial=0.0)))
        np.testing.assert_allclose(
            np.asarray(a, np.float64), copies[0], atol=tolerance * scale, err_msg=name
        )
    return metrics


def _check_gradient(one, many):
    """Adam's first moment after a step is a tenth of the gradient: the same rays, summed."""
    (a, _), (b, _) = one.steps(1), many.steps(1)
    pairs = zip(
        jax.tree.leaves(a.optimizer[1][0].mu), jax.tree.leaves(b.optimizer[1][0].mu), strict=True
    )
    for x, y in pairs:
        largest = float(jnp.max(jnp.abs(x)))
        assert largest > 0
        np.testing.assert_allclose(x, y, atol=1e-5 * largest)


def check_alone_is_alone(run):
    """One device's program knows of no other device."""
    shapes = nerf_setup.state_shapes(run.setup)
    program = run._step.lower(shapes, run.setup.data, run.setup.run_key).as_text()
    for word in ("all_reduce", "all_gather", "partition_id"):
        assert word not in program


def check_statistically(job, count=40):
    """Losses at the end of runs by many keys, where samples are other ones on eight devices."""
    one, many = Run(job, None), Run(job, MESH)
    gaps, kept, gains = [], [], []
    for seed in range(8):
        (_, alone), (_, shared) = one.steps(count, seed), many.steps(count, seed)
        late = [np.mean([float(row.loss) for row in rows[-10:]]) for rows in (alone, shared)]
        gaps.append(late[1] - late[0])
        kept.append([np.mean([row.kept_rays for row in rows]) for rows in (alone, shared)])
        gains.append(float(shared[0].loss) - late[1])
    assert np.mean(gains) > 0, "runs that learn nothing show nothing"
    assert_mean_close(gaps, 0.0)
    return np.mean(kept, axis=0)


def main():
    if sys.argv[1] == "fast":
        check_axis()
        metrics = check_equal(job(occupancy_every=4))
        assert all(int(row.kept_rays) == 64 for row in metrics)
        with pytest.raises(ValueError, match=r"split 60 rays per step .* over 8 devices"):
            Run(job(rays_per_step=60), MESH)
        with pytest.raises(ValueError, match=r"marching.budget.* over 8 devices"):
            Run(job(budget=4097), MESH)
    elif sys.argv[1] == "samplers":
        for name in ("uniform", "stratified", "mixed", "soft_mining"):
            check_equal(job(SamplerConfig(name=name)), tolerance=1e-2)
    else:
        check_equal(job(corrections=CorrectionConfig(colors=True, poses=True)), tolerance=1e-3)
        check_equal(job(steps_per_call=4), count=2)
        guided = dataclasses.replace(depth.PRESETS["hybrid"], keypoint_rays=8)
        check_statistically(job(depth=guided, distortion_weight=0.01))
        kept = check_statistically(job(budget=512))
        assert kept[1] > 0.9 * kept[0], "splitting the budget must not cost many rays"
    print("passed")


if __name__ == "__main__":
    main()
