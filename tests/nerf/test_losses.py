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
