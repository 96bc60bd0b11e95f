"""Run by test_sharding in a process of its own with eight CPU devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from samplers import pyramid, pyramid_write, sharding
from tests.statistics import assert_frequencies, assert_mean_close


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

    with pytest.raises(ValueError, match="split 9"):
        sharding.draw_fixed_share(jax.random.key(0), shards, 9, mesh, "shards")
    with pytest.raises(ValueError, match="split 3 items"):
        sharding.build_sharded(jnp.ones(3), mesh, "shards")
    print("sharded checks passed")


if __name__ == "__main__":
    main()
