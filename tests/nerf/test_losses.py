import jax
import jax.numpy as jnp
import numpy as np
import optax

from nerf import losses

PREDICTED = jax.random.uniform(jax.random.key(0), (20, 3))
TARGET = jax.random.uniform(jax.random.key(1), (20, 3))


def test_squared_error_is_the_mean_over_channels():
    expected = np.mean((np.float64(PREDICTED) - np.float64(TARGET)) ** 2, axis=-1)
    np.testing.assert_allclose(losses.squared_error(PREDICTED, TARGET), expected, rtol=1e-5)


def test_huber_is_optax_huber_over_delta():
    expected = jnp.mean(optax.huber_loss(PREDICTED, TARGET, delta=0.1), axis=-1) / 0.1
    np.testing.assert_allclose(losses.huber(PREDICTED, TARGET), expected, rtol=1e-5)


def test_opacity_entropy_peaks_at_one_half_and_is_finite_at_the_ends():
    opacity = jnp.array([0.0, 0.25, 0.5, 0.75, 1.0])
    value, slope = jax.vmap(jax.value_and_grad(lambda o: losses.opacity_entropy(o[None])[0]))(
        opacity
    )
    assert int(jnp.argmax(value)) == 2
    np.testing.assert_allclose(value[2], np.log(2), rtol=1e-6)
    np.testing.assert_allclose(value[1], value[3], rtol=1e-5)
    assert np.all(np.isfinite(slope))


def test_distortion_is_the_sum_over_pairs():
    """Eq. 15 of Barron et al. 2022 as it stands, pair by pair, for rays of several lengths."""
    random = np.random.default_rng(0)
    lengths = (5, 1, 9)
    ray = np.repeat(np.arange(3), lengths)
    edges = [np.sort(random.random(n + 1)) for n in lengths]
    place = np.concatenate([(e[:-1] + e[1:]) / 2 for e in edges])
    width = np.concatenate([np.diff(e) for e in edges])
    weights = random.random(len(ray))
    expected = []
    for number in range(3):
        w, x, b = (values[ray == number] for values in (weights, place, width))
        pairs = w[:, None] * w[None] * np.abs(x[:, None] - x[None])
        expected.append(pairs.sum() + (w**2 * b).sum() / 3)
    arguments = [jnp.asarray(values, jnp.float32) for values in (weights, place, width)]
    found = losses.distortion(*arguments, jnp.asarray(ray), num_rays=3, longest=9)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # weight that gathers in one place costs less
    peaked = jnp.zeros(len(ray)).at[7].set(1.0)
    spread = jnp.where(ray == 2, 1.0 / 9.0, 0.0)
    costs = [
        losses.distortion(w, *arguments[1:], jnp.asarray(ray), num_rays=3, longest=9)[2]
        for w in (peaked, spread)
    ]
    assert costs[0] < costs[1]
