"""Guides: right pulls, known optima, and no derivative through them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from voxels.guidance.distillation import DistillationConfig, distill, signal_shares
from voxels.guidance.mixture import mixture, mixture_noise
from voxels.guidance.prompts import WORDS
from voxels.guidance.protocol import Guidance, Pull, Query
from voxels.guidance.target import target
from voxels.guidance.tiny import TinyUNet, tiny

KEY = jax.random.key(0)


def query(images, progress=0.0):
    views = jnp.arange(images.shape[0])
    return Query(jnp.asarray(images, jnp.float32), views, jnp.float32(progress))


def test_target_pulls_along_the_gradient_of_the_mean_squared_error():
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (2, 3, 4, 3), np.uint8)
    images = random.random((2, 3, 4, 3))
    guide = target(jnp.asarray(pictures))
    pull = guide.pull(guide.data, KEY, query(images))
    error = images - pictures / 255.0
    wanted = 2 * error / 36
    np.testing.assert_allclose(pull.gradient, wanted, atol=1e-6)
    np.testing.assert_allclose(pull.value, (error**2).mean((1, 2, 3)), rtol=1e-5)


def untrained():
    """`tiny` with weights as they are before training."""
    prompt = np.zeros(len(WORDS), np.float32)
    shapes = jnp.zeros((1, 32, 32, 3)), jnp.full(1, 0.5), prompt[None]
    return tiny(jax.jit(TinyUNet().init)(KEY, *shapes)["params"], prompt)


@pytest.mark.parametrize(
    "make",
    [
        lambda: target(jnp.zeros((1, 2, 2, 3), jnp.uint8)),
        lambda: mixture(jnp.zeros((1, 1, 2, 2, 3), jnp.uint8)),
        untrained,
        lambda: Guidance("any", jnp.ones(()), lambda data, key, q: Pull(q.images, data, {})),
    ],
    ids=["target", "mixture", "tiny", "any"],
)
def test_guides_cannot_be_differentiated_by_mistake(make):
    guide, images = make(), jnp.ones((1, 2, 2, 3))

    def mistake(images, progress, data):
        pull = guide.pull(data, KEY, query(images)._replace(progress=progress))
        return pull.value.sum() + pull.gradient.sum()

    known = (images, jnp.float32(0.5), guide.data)
    assert np.isfinite(jax.jit(mistake)(*known))
    for argument in range(3 if guide.name == "any" else 2):
        for wrapped in (mistake, jax.jit(mistake)):
            with pytest.raises(TypeError, match="cannot be differentiated"):
                jax.grad(wrapped, argnums=argument)(*known)


def test_opaque_guides_see_plain_numbers_and_cannot_be_differentiated_either():
    def foreign(data, key, query):
        assert data is None
        level = float(query.progress) * np.asarray(query.images)
        return Pull(jnp.asarray(level), jnp.asarray(level.sum((1, 2, 3))), {})

    guide = Guidance("foreign", None, foreign, is_traceable=False)
    images = jnp.ones((1, 2, 2, 3))
    pull = guide.pull(guide.data, KEY, query(images, 0.5))
    np.testing.assert_allclose(pull.gradient, 0.5)
    with pytest.raises(TypeError, match="cannot be differentiated"):
        jax.grad(lambda images: guide.pull(None, KEY, query(images)).value.sum())(images)


def test_the_noise_schedule_is_the_one_of_stable_diffusion():
    """Values computed with diffusers 0.42 (scaled-linear betas, 1000 steps)."""
    abar = np.asarray(signal_shares(DistillationConfig()))
    sigma = np.sqrt((1 - abar) / abar)
    np.testing.assert_allclose(sigma[[999, 749, 499, 249]], [14.61, 4.08, 1.61, 0.693], rtol=3e-3)


def test_the_closed_form_denoiser_is_the_score_of_the_mixture():
    """eps_hat = -sqrt(1 - abar) grad log p(x_t), with log p by automatic differentiation."""
    random = np.random.default_rng(1)
    modes = jnp.asarray(random.normal(size=(3, 2, 5)), jnp.float32)
    noisy = jnp.asarray(random.normal(size=(2, 5)), jnp.float32)
    shares, spread, abar = jnp.array([0.2, 0.0, 0.8]), jnp.float32(0.3), jnp.array([0.9, 0.2])

    def log_density(x):
        variance = abar * spread**2 + 1 - abar
        centre = jnp.sqrt(abar)[None, :, None] * modes
        squares = ((x[None] - centre) ** 2).sum(-1)
        kept = jnp.array([0, 2])
        terms = jnp.log(shares[kept])[:, None] - 0.5 * squares[kept] / variance[None]
        return jax.nn.logsumexp(terms, axis=0).sum()

    expected = -jnp.sqrt(1 - abar)[:, None] * jax.grad(log_density)(noisy)
    np.testing.assert_allclose(
        mixture_noise(noisy, abar, modes, shares, spread), expected, rtol=1e-4, atol=1e-5
    )


def test_the_mean_pull_towards_one_world_is_the_closed_form():
    """E[g] = w sqrt(abar (1 - abar)) (z - mu) / (abar s^2 + 1 - abar) at a fixed noise level."""
    level, spread, repeats = 400, 0.1, 4096
    config = DistillationConfig(
        min_noise=level / 1000,
        max_noise_start=(level + 0.999) / 1000,
        max_noise_end=(level + 0.999) / 1000,
    )
    random = np.random.default_rng(2)
    z = jnp.asarray(random.normal(size=(1, 6)), jnp.float32)
    centre = jnp.asarray(random.normal(size=(1, 6)), jnp.float32)

    def denoiser(noisy, abar, is_prompted):
        modes = jnp.broadcast_to(centre, noisy.shape)[None]
        return mixture_noise(noisy, abar, modes, jnp.ones(1), jnp.float32(spread))

    out = distill(config, KEY, denoiser, jnp.broadcast_to(z, (repeats, 6)), jnp.float32(0.0))
    assert set(np.asarray(out.level)) == {level}
    abar = float(signal_shares(config)[level])
    scale = (1 - abar) * np.sqrt(abar * (1 - abar)) / (abar * spread**2 + 1 - abar)
    expected = scale * np.asarray(z - centre)[0]
    mean = np.asarray(out.gradient, np.float64).mean(0)
    assert np.linalg.norm(mean - expected) < 0.02 * np.linalg.norm(expected)
    # at this level the posterior mean of the clean image is nearly the one world there is
    np.testing.assert_allclose(np.asarray(out.denoised).mean(0), np.asarray(centre)[0], atol=0.05)


def follow(variant, shades, prompt):
    """Where 300 steps along the pull lead from a grey image."""
    worlds = np.stack([np.full((1, 2, 2, 3), shade, np.uint8) for shade in shades])
    guide = mixture(jnp.asarray(worlds), prompt=prompt, config=DistillationConfig(variant=variant))

    @jax.jit
    def run(images):
        def step(i, images):
            pull = guide.pull(guide.data, jax.random.fold_in(KEY, i), query(images, 0.5))
            return images - 0.5 * pull.gradient

        return jax.lax.fori_loop(0, 300, step, images)

    return np.asarray(run(jnp.full((1, 2, 2, 3), 0.4)))


def test_following_the_pull_ends_at_the_world_the_prompt_names():
    images = follow("sds", (40, 200), jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(images, 200 / 255, atol=0.01)


def test_interval_matching_moves_towards_the_only_world():
    images = follow("ism", (200,), jnp.array([1.0]))
    assert images.min() > 0.45
    assert images.max() < 200 / 255


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DistillationConfig(min_noise=0.6), "min_noise"),
        (lambda: DistillationConfig(guidance_scale=-1.0), "guidance_scale"),
        (lambda: mixture(jnp.zeros((2, 1, 1, 1, 3), jnp.uint8), spread=0.0), "spread"),
        (lambda: mixture(jnp.zeros((2, 1, 1, 1, 3), jnp.uint8), prompt=jnp.zeros(2)), "prompt"),
    ],
)
def test_impossible_guides_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_guides_are_plain_values():
    guide = Guidance("nothing", (), lambda data, key, q: Pull(q.images, q.images[:, 0, 0, 0], {}))
    assert guide.is_traceable
