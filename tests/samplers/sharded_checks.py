"""Run by test_sharding in a process of its own with eight CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from samplers import (
    ENTRIES,
    Feedback,
    make_ray_sampler,
    pyramid,
    pyramid_write,
    sharded_rays,
    sharding,
)
from samplers.pixels import index_from_pixels, pixel_indices
from tests.statistics import assert_frequencies, assert_mean_close

HANDED_BACK = ("error_weighted", "temporal")


def main():
    mesh = Mesh(np.array(jax.devices()), ("shards",))
    assert mesh.shape["shards"] == 8
    size, n = 1000, 4096
    weights = np.random.default_rng(0).lognormal(sigma=1.5, size=size).astype(np.float32)
    weights[::7] = 0.0
    shards = sharding.build_sharded(jnp.asarray(weights), mesh, "shards")
    np.testing.assert_array_equal(sharding.gather_weights(shards, size), weights)
    expected = 0.8 * weights / weights.sum() + 0.2 / size

    draw = jax.jit(
        lambda key, s: sharding.draw_global(key, s, n, mesh, "shards", uniform_fraction=0.2)
    )
    counts = np.zeros(size)
    for seed in range(8):
        items, probs = (np.asarray(part) for part in draw(jax.random.key(seed), shards))
        counts += np.bincount(items, minlength=size)
        np.testing.assert_allclose(probs, expected[items], rtol=1e-4)
    assert_frequencies(counts, expected)

    fixed = jax.jit(
        lambda key, s: sharding.draw_fixed_share(key, s, n, mesh, "shards", uniform_fraction=0.2)
    )
    values = np.sin(np.arange(size))
    estimates = []
    for seed in range(40):
        items, probs = (np.asarray(part) for part in fixed(jax.random.key(seed), shards))
        assert np.all(np.bincount(items // 125, minlength=8) == n // 8)
        estimates.append(np.mean(values[items] / (size * probs.astype(np.float64))))
    assert_mean_close(estimates, values.mean())

    index = jnp.asarray(np.random.default_rng(1).integers(0, size, n), jnp.int32)
    value = jnp.asarray(np.random.default_rng(2).uniform(size=n), jnp.float32)
    write = jax.jit(lambda s: sharding.write_sharded(s, index, value, mesh, "shards"))
    written = sharding.gather_weights(write(shards), size)
    single = pyramid_write.write(pyramid.build(jnp.asarray(weights)), index, value)
    np.testing.assert_allclose(written, pyramid.leaf_weights(single, size), rtol=1e-5)

    tops = sharding.build_sharded(jnp.asarray(weights), mesh, "shards", has_maxima=True)
    assert float(sharding.max_weight(tops)) == weights.max()
    for scale in (0.01, 3.0):
        tops = sharding.write_sharded(tops, index, scale * value, mesh, "shards")
        largest = np.max(sharding.gather_weights(tops, size))
        assert float(jax.jit(sharding.max_weight)(tops)) == largest

    with pytest.raises(ValueError, match="split 9"):
        sharding.draw_fixed_share(jax.random.key(0), shards, 9, mesh, "shards")
    with pytest.raises(ValueError, match="split 3 items"):
        sharding.build_sharded(jnp.ones(3), mesh, "shards")
    for name in ("error_weighted", "temporal", "top_k"):
        check_rays(mesh, name)
    with pytest.raises(ValueError, match="cannot split 12 views over 8 devices"):
        ray_sampler(mesh, "spatial", num_views=12)
    with pytest.raises(ValueError, match="no mask if sharded"):
        ray_sampler(mesh, "spatial").init(jax.random.key(0), mask=jnp.ones((16, 6, 8), bool))
    print("sharded checks passed")


def ray_sampler(mesh, name, num_views=16, is_split=True):
    options = {"tile": 4} if name not in ("uniform", "error_weighted") else {}
    options |= {"warmup_steps": 1} if name != "uniform" else {}
    options |= {"handback_from": 0.5} if name in HANDED_BACK else {}
    sizes = {"rows": 6, "cols": 8, "batch_size": 256, "options": options}
    if is_split:
        return sharded_rays.make_sharded_ray_sampler(
            name, mesh=mesh, axis="shards", num_views=num_views, **sizes
        )
    return make_ray_sampler(name, num_views=num_views // 8, **sizes | {"batch_size": 32})


def check_rays(mesh, name):
    """A sharded sampler is one sampler per device, and unbiased for the mean over all pixels."""
    split, single = ray_sampler(mesh, name), ray_sampler(mesh, name, is_split=False)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (16, 6, 8, 3)).astype(np.uint8))
    data = [images] if ENTRIES[name].needs else []
    loss = rng.uniform(0.1, 2.0, 16 * 48).astype(np.float32)
    state = jax.jit(split.init)(jax.random.key(0), *data)
    sample, update = jax.jit(split.sample), jax.jit(split.update)
    alone = [
        single.init(
            jax.random.fold_in(jax.random.key(0), shard), *(x[2 * shard :][:2] for x in data)
        )
        for shard in range(8)
    ]
    sample_one, update_one = jax.jit(single.sample), jax.jit(single.update)

    def flat(items):
        return np.asarray(index_from_pixels(pixel_indices(items, 6, 8), 6, 8))

    for step in range(3):
        key = jax.random.key(step)
        draw = sample(key, state)
        index = flat(draw.items)
        assert np.all(index // 96 == np.arange(256) // 32)
        state = update(state, draw, Feedback(jnp.asarray(loss[index])))
        for shard in range(8):
            own = sample_one(jax.random.fold_in(key, shard), alone[shard])
            place = slice(32 * shard, 32 * shard + 32)
            np.testing.assert_array_equal(flat(own.items) + 96 * shard, index[place])
            np.testing.assert_allclose(draw.probs[place], own.probs / 8, rtol=1e-6)
            feedback = Feedback(jnp.asarray(loss[index[place]]))
            alone[shard] = update_one(alone[shard], own, feedback)
    for shard in range(8):
        jax.tree.map(
            lambda got, want, shard=shard: np.testing.assert_allclose(got[shard], want, rtol=1e-5),
            state,
            alone[shard],
        )
    if name in HANDED_BACK:
        over = split.probabilities(split.plan(state, 4))
        np.testing.assert_allclose(over, 1 / (16 * 48), rtol=1e-5)
    probs = np.asarray(split.probabilities(state), np.float64).reshape(-1)
    np.testing.assert_allclose(probs.sum(), 1.0, rtol=1e-5)
    estimates, counts = [], np.zeros(16 * 48)
    for seed in range(100):
        draw = sample(jax.random.key(seed), state)
        index = flat(draw.items)
        np.testing.assert_allclose(draw.probs, probs[index], rtol=1e-4)
        counts += np.bincount(index, minlength=16 * 48)
        estimates.append(np.mean(np.asarray(draw.weights) * loss[index]))
    assert_frequencies(counts, probs)
    if ENTRIES[name].is_unbiased:
        assert_mean_close(estimates, loss.mean())


if __name__ == "__main__":
    main()
