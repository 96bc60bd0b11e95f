"""One meaning, several ways: every backend against brute force, in value and slope."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.precision import count_products
from voxels.rendering.binning import Frame
from voxels.rendering.first_hit import HitConfig, composite_hard
from voxels.rendering.numba_march import composite_numba
from voxels.rendering.ray_march import MarchConfig, composite_march
from voxels.rendering.reference import composite_reference
from voxels.rendering.splat import SplatConfig, composite_splat

from .examples import EYES, pinhole, random_cells
from .oracles import brute_force

SHAPE, ROWS, COLS, NEAR = (9, 6, 7), 12, 14, 0.05
SIZE = int(np.prod(SHAPE))


def march(mode, dtype, logits, probs, lit, eye, frame, directions, skips=False):
    stop = 1e-15 if dtype == np.float64 else 1e-7
    config = MarchConfig(mode=mode, near=NEAR, stop=stop, tile=8, is_eye_cell_skipped=skips)
    return composite_march(config, logits, probs, lit, eye, directions)


def strided(mode, dtype, logits, probs, lit, eye, frame, directions):
    stop = 1e-15 if dtype == np.float64 else 1e-7
    config = MarchConfig(mode=mode, near=NEAR, stop=stop, tile=0, stride=5)
    return composite_march(config, logits, probs, lit, eye, directions)


def numba(mode, dtype, logits, probs, lit, eye, frame, directions, skips=False):
    pytest.importorskip("numba")
    stop = 1e-15 if dtype == np.float64 else 1e-7
    config = MarchConfig(mode=mode, near=NEAR, stop=stop, is_eye_cell_skipped=skips)
    return composite_numba(config, logits, probs, lit, eye, directions)


def splat(mode, dtype, logits, probs, lit, eye, frame, directions, skips=False):
    stop = 1e-15 if dtype == np.float64 else 1e-7
    config = SplatConfig(
        shape=SHAPE,
        max_pairs=2048,
        mode=mode,
        near=NEAR,
        stop=stop,
        tile=8,
        block=16,
        is_eye_cell_skipped=skips,
    )
    flat = jnp.arange(SIZE, dtype=jnp.int32)
    listed = logits.reshape(-1), probs.reshape(SIZE, -1)
    return composite_splat(config, flat, *listed, lit, eye, frame, directions).composite


def hard(mode, dtype, logits, probs, lit, eye, frame, directions, skips=False):
    config = HitConfig(
        shape=SHAPE, near=NEAR, threshold=0.0, tile=8, stride=2, is_eye_cell_skipped=skips
    )
    listed = logits.reshape(-1), probs.reshape(SIZE, -1)
    return composite_hard(config, None, *listed, lit, eye, directions)


def reference(mode, dtype, logits, probs, lit, eye, frame, directions):
    return composite_reference(mode, NEAR, logits, probs, lit, eye, directions)


BACKENDS = {
    "march": march,
    "strided": strided,
    "numba": numba,
    "splat": splat,
    "hard": hard,
    "reference": reference,
}


@functools.cache
def compiled(backend, mode, dtype):
    """Composite, and the gradient of a fixed linear form of it, in one program."""
    random = np.random.default_rng(5)
    forms = [random.normal(size=(ROWS, COLS, *rest)) for rest in ((3,), (), (3,), ())]

    def objective(logits, probs, lit, *rays):
        out = BACKENDS[backend](mode, dtype, logits, probs, lit, *rays)
        parts = zip(out[:4], forms, strict=True)
        return sum(jnp.sum(part * form.astype(dtype)) for part, form in parts), out

    return jax.jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))


def example(name, dtype, seed=0):
    logits, probs, lit = random_cells(seed, SHAPE)
    eye, centre = EYES[name]
    rotation, principal, directions = pinhole(eye, centre, ROWS, COLS, 12.0)
    frame = Frame(*(jnp.asarray(x, dtype) for x in (rotation, np.full(2, 12.0), principal)))
    rest = [jnp.asarray(x, dtype) for x in (logits, probs, lit, np.array(eye))]
    return (*rest, frame, jnp.asarray(directions, dtype))


def largest_error(got, wanted):
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    both_infinite = np.isinf(got) & np.isinf(wanted)
    return np.abs(np.where(both_infinite, 0.0, got) - np.where(both_infinite, 0.0, wanted)).max()


@pytest.mark.parametrize("mode", ["solid", "beer"])
def test_reference_is_what_cutting_rays_at_every_plane_gives(mode):
    with jax.enable_x64(True):
        for name in EYES:
            logits, probs, lit, eye, frame, directions = example(name, np.float64)
            out = BACKENDS["reference"](mode, None, logits, probs, lit, eye, frame, directions)
            numbers = [np.asarray(x) for x in (logits, probs, lit, eye, directions)]
            features, passing, depth = brute_force(mode, NEAR, *numbers)
            np.testing.assert_allclose(out.features, features, atol=1e-12)
            np.testing.assert_allclose(out.transmittance, passing, atol=1e-12)
            np.testing.assert_allclose(out.depth, depth, atol=1e-10)


@pytest.mark.parametrize("mode", ["solid", "beer"])
@pytest.mark.parametrize("backend", ["march", "strided", "numba", "splat"])
def test_values_and_gradients_equal_the_reference_in_float64(backend, mode):
    with jax.enable_x64(True):
        for name in EYES:
            arguments = example(name, np.float64)
            (_, got), got_gradient = compiled(backend, mode, np.float64)(*arguments)
            (_, wanted), wanted_gradient = compiled("reference", mode, np.float64)(*arguments)
            for a, b in zip(got, wanted, strict=True):
                assert largest_error(a, b) < 1e-12, name
            for a, b in zip(got_gradient, wanted_gradient, strict=True):
                assert largest_error(a, b) < 1e-12 * np.abs(b).max(), name


@pytest.mark.parametrize("mode", ["solid", "beer"])
@pytest.mark.parametrize("backend", ["march", "strided", "numba", "splat"])
def test_float32_is_within_2e6_of_float64(backend, mode):
    largest = 2e-6 if mode == "solid" else 4e-6  # the far eye's chords have lost a bit
    for name in EYES:
        (_, got), got_gradient = compiled(backend, mode, np.float32)(*example(name, np.float32))
        with jax.enable_x64(True):
            arguments = [
                jax.tree.map(lambda x: np.asarray(x, np.float64), a)
                for a in example(name, np.float32)
            ]
            answer = compiled("reference", mode, np.float64)(*jax.tree.map(jnp.asarray, arguments))
        (_, wanted), wanted_gradient = answer
        assert largest_error(got.features, wanted.features) < 2e-6
        assert largest_error(got.transmittance, wanted.transmittance) < 2e-6
        for a, b in zip(got_gradient, wanted_gradient, strict=True):
            a, b = np.asarray(a, np.float64), np.asarray(b)
            assert np.linalg.norm(a - b) < largest * np.linalg.norm(b), name


@pytest.mark.parametrize("mode", ["solid", "beer"])
@pytest.mark.parametrize("backend", ["numba", "splat"])
def test_backends_agree_in_float32(backend, mode):
    for name in EYES:
        arguments = example(name, np.float32)
        (_, a), _ = compiled("march", mode, np.float32)(*arguments)
        (_, b), _ = compiled(backend, mode, np.float32)(*arguments)
        assert largest_error(a.features, b.features) < 1e-6
        assert largest_error(a.transmittance, b.transmittance) < 1e-6
        assert largest_error(a.median, b.median) < 1e-6


@pytest.mark.parametrize("backend", ["march", "numba", "splat", "hard"])
def test_the_cell_that_holds_the_eye_can_be_looked_through(backend):
    """All backends leave it out as the reference does, and it would have been seen."""
    mode = "hard" if backend == "hard" else "solid"
    with jax.enable_x64(True):
        arguments = example("inside", np.float64)
        here = tuple(np.floor(EYES["inside"][0]).astype(int))
        logits = arguments[0].at[here].set(3.0)
        arguments = (logits, *arguments[1:])
        wanted = composite_reference(
            mode, NEAR, *arguments[:4], arguments[5], is_eye_cell_skipped=True
        )
        got = jax.jit(functools.partial(BACKENDS[backend], mode, np.float64, skips=True))(
            *arguments
        )
        seen = BACKENDS["reference"](mode, np.float64, *arguments)
        assert largest_error(seen.features, wanted.features) > 0.1
        for a, b in zip(got, wanted, strict=True):
            assert largest_error(a, b) < 1e-12


@pytest.mark.parametrize("backend", ["march", "numba", "splat", "hard"])
def test_what_is_kept_for_the_gradient_grows_with_pixels_only(backend):
    """Beside what went in and came out, nothing of the size of the rays' crossings is kept."""
    arguments = example("outside", np.float32)
    mode = "hard" if backend == "hard" else "solid"

    def image(logits, probs, lit):
        return BACKENDS[backend](mode, np.float32, logits, probs, lit, *arguments[3:])

    out, pull = jax.vjp(image, *arguments[:3])
    kept = sum(np.size(leaf) for leaf in jax.tree.leaves(pull))
    given = sum(np.size(leaf) for leaf in jax.tree.leaves(arguments))
    made = sum(np.size(leaf) for leaf in jax.tree.leaves(out))
    assert made <= kept <= given + 4 * made


@pytest.mark.parametrize("mode", ["solid", "beer"])
def test_gradients_match_central_differences(mode):
    with jax.enable_x64(True):
        program = compiled("march", mode, np.float64)
        arguments = list(example("outside", np.float64))
        (_, _), gradient = program(*arguments)
        random = np.random.default_rng(1)
        for position in range(3):
            slopes = np.asarray(gradient[position]).reshape(-1)
            chosen = random.choice(slopes.size, 8, replace=False)
            chosen[0] = np.argmax(np.abs(slopes))
            for index in chosen:
                values = []
                for step in (1e-5, -1e-5):
                    moved = np.array(arguments[position])
                    moved.reshape(-1)[index] += step
                    changed = [*arguments]
                    changed[position] = jnp.asarray(moved)
                    values.append(float(program(*changed)[0][0]))
                difference = (values[0] - values[1]) / 2e-5
                assert abs(difference - slopes[index]) < 1e-8 * np.abs(slopes).max()


def test_hard_shows_what_brute_force_sees_and_passes_gradients_straight_through():
    """The oracle composites with a = step + (sigmoid - its own value): binary, with a slope."""
    with jax.enable_x64(True):
        for name in EYES:
            arguments = example(name, np.float64, seed=3)
            arguments = (arguments[0] - 1.0, *arguments[1:])
            (_, got), gradient = compiled("hard", "hard", np.float64)(*arguments)
            (_, wanted), _ = compiled("reference", "hard", np.float64)(*arguments)
            for a, b in zip(got, wanted, strict=True):
                assert largest_error(a, b) < 1e-12, name
            oracle = straight_through_gradient(arguments)
            for a, b in zip(gradient, oracle, strict=True):
                assert largest_error(a, b) < 1e-12 * np.abs(b).max(), name


@functools.cache
def straight_through_program():
    import voxels.rendering.reference as module

    def soft_step(mode, logits):
        occupancy = jax.nn.sigmoid(logits)
        return (logits > 0) + occupancy - jax.lax.stop_gradient(occupancy)

    random = np.random.default_rng(5)
    forms = [random.normal(size=(ROWS, COLS, *rest)) for rest in ((3,), (), (3,), ())]

    def objective(logits, probs, lit, *rays):
        original, module.strength = module.strength, soft_step
        try:
            out = reference("hard", None, logits, probs, lit, *rays)
        finally:
            module.strength = original
        return sum(jnp.sum(part * form) for part, form in zip(out[:4], forms, strict=True))

    return jax.jit(jax.grad(objective, argnums=(0, 1, 2)))


def straight_through_gradient(arguments):
    return straight_through_program()(*arguments)


@pytest.mark.parametrize("backend", ["march", "strided", "numba", "splat"])
def test_gradients_are_finite_where_occupancy_saturates(backend):
    arguments = example("inside", np.float32)
    for size in (0.0, 1e-10, 20.0, 200.0, 1e4, 1e30):
        logits = jnp.sign(arguments[0]) * jnp.float32(size)
        (_, out), gradient = compiled(backend, "solid", np.float32)(logits, *arguments[1:])
        assert np.isfinite(out.features).all()
        assert all(np.isfinite(g).all() for g in gradient)


@pytest.mark.parametrize("backend", ["march", "strided", "numba", "splat"])
def test_poses_get_no_gradient(backend):
    arguments = example("outside", np.float32)

    def objective(eye, directions):
        rest = arguments[:3]
        out = BACKENDS[backend]("solid", np.float32, *rest, eye, arguments[4], directions)
        return jnp.sum(out.features)

    gradient = jax.jit(jax.grad(objective, argnums=(0, 1)))(arguments[3], arguments[5])
    assert all((np.asarray(g) == 0).all() for g in gradient)


@pytest.mark.parametrize("backend", ["march", "strided", "numba", "splat", "hard"])
def test_accelerators_keep_all_bits_of_float32(backend):
    arguments = example("outside", np.float32)

    def objective(logits, probs, lit):
        out = BACKENDS[backend]("solid", np.float32, logits, probs, lit, *arguments[3:])
        return jnp.sum(out.features)

    count, inexact = count_products(jax.grad(objective, argnums=(0, 1, 2)), *arguments[:3])
    assert (count > 0, inexact) == (True, 0)


def test_a_new_camera_or_map_compiles_nothing():
    from tests.variants import assert_traced_once

    calls = [example(name, np.float32, seed) for seed, name in enumerate(EYES)]
    assert_traced_once(lambda *a: march("solid", np.float32, *a), *calls)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MarchConfig(mode="hard"), "for"),
        (lambda: MarchConfig(stop=0.7), "stop"),
        (lambda: HitConfig(shape=SHAPE, threshold=0.9), "threshold"),
        (lambda: SplatConfig(shape=SHAPE, max_pairs=0), "max_pairs"),
        (lambda: SplatConfig(shape=SHAPE, max_pairs=1, near=0.0), "near"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
