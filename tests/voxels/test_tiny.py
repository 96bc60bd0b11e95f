"""The small denoiser and its critic: shapes, prompts, learning, weights kept in files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from training import tiny_guide
from training.run_folder import read_json
from training.voxels_command import VoxelsCommand
from voxels.guidance.critic import fit_critic, score
from voxels.guidance.distillation import DistillationConfig
from voxels.guidance.prompts import WORDS, parse_prompt
from voxels.guidance.protocol import Query
from voxels.guidance.tiny import predict_noise, shrink, tiny
from voxels.guidance.tiny_training import (
    Pictures,
    TinyTrainingConfig,
    init_tiny,
    sample_worlds,
    tiny_step,
)
from voxels.procedural import WorldConfig

KEY = jax.random.key(0)
CONFIG = TinyTrainingConfig(batch_size=4, num_steps=120, average=0.5)


@pytest.fixture(scope="module")
def learned():
    """A few steps on four flat pictures whose colour is the prompt."""
    prompts = np.eye(len(WORDS), dtype=np.float32)
    colors = np.array([[0, 0, 250], [250, 250, 250], [0, 200, 0], [120, 120, 120]], np.uint8)
    images = np.broadcast_to(colors[:, None, None], (4, 32, 32, 3))
    pictures = Pictures(jnp.asarray(images), jnp.asarray(prompts))
    state = init_tiny(CONFIG, KEY)
    step, losses = jax.jit(functools.partial(tiny_step, CONFIG)), []
    for _ in range(CONFIG.num_steps):
        state, loss = step(KEY, state, pictures)
        losses.append(float(loss))
    return state, losses


@pytest.mark.slow
def test_the_denoiser_learns(learned):
    losses = learned[1]
    assert np.mean(losses[-8:]) < 0.8 * losses[0]


@pytest.mark.slow
def test_what_is_almost_clean_comes_back_as_almost_no_noise(learned):
    params = learned[0].average
    clean = jnp.full((1, 32, 32, 3), 0.25)
    prompt = jnp.asarray(parse_prompt(""))[None]
    guess = predict_noise(params, clean, jnp.full(1, 1 - 1e-6), prompt)
    assert guess.shape == clean.shape
    # eps_hat = sqrt(1 - abar) x_t + sqrt(abar) v is v here
    assert bool(jnp.isfinite(guess).all())


@pytest.mark.slow
def test_pulls_depend_on_the_prompt_and_have_the_size_of_the_picture(learned):
    params = learned[0].average
    images = jnp.full((2, 48, 48, 3), 0.5)
    query = Query(images, jnp.arange(2), jnp.float32(0.3))
    config = DistillationConfig(guidance_scale=2.0)
    pulls = []
    for text in ("lake", "snow"):
        guide = tiny(params, parse_prompt(text), config=config)
        pulls.append(guide.pull(guide.data, KEY, query))
    assert pulls[0].gradient.shape == images.shape
    blue, white = (np.asarray(-pull.gradient).mean((0, 1, 2)) for pull in pulls)
    # a lake pulls blue above red, snow both alike
    assert blue[2] - blue[0] > white[2] - white[0]


@pytest.mark.slow
def test_weights_survive_a_file_and_others_are_refused(learned, tmp_path):
    params = learned[0].average
    path = tmp_path / "guide.npz"
    tiny_guide.save(path, params)
    for a, b in zip(jax.tree.leaves(tiny_guide.load(path)), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(a, b)
    np.savez(tmp_path / "other.npz", words=np.array(["castle"]))
    with pytest.raises(ValueError, match="needed weights for"):
        tiny_guide.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="no weights"):
        tiny_guide.load_or_train(str(tmp_path / "none.npz"))


def test_worlds_have_what_their_words_say():
    worlds, has = sample_worlds(WorldConfig(), 24, 0)
    names = worlds[0].names
    shares = {name: i + 1 for i, name in enumerate(names)}
    for world, row in zip(worlds, has, strict=True):
        assert bool((world.materials == shares["Snow"]).any()) == bool(row[1])
        assert bool((world.materials == shares["Water"]).any()) == bool(row[0])
    assert (np.abs(has.mean(0) - 0.5) < 0.35).all()


def test_prompts_are_known_words_only():
    np.testing.assert_array_equal(parse_prompt("Lake, towers"), [1, 0, 0, 1])
    assert np.isnan(parse_prompt(" ")).all()
    with pytest.raises(ValueError, match="castle"):
        parse_prompt("snow castle")


def test_the_critic_tells_colours_apart_that_it_was_not_shown():
    random = np.random.default_rng(0)

    def pictures(count):
        is_blue = random.random(count) < 0.5
        base = np.where(is_blue[:, None], [0.1, 0.2, 0.7], [0.2, 0.7, 0.2])
        noise = 0.1 * random.random((count, 8, 8, 3))
        return base[:, None, None] + noise, is_blue[:, None].astype(float)

    critic = fit_critic(*pictures(60))
    images, has = pictures(20)
    scores = np.array([score(critic, image[None])[0] for image in images])
    assert ((scores > 0) == (has[:, 0] > 0.5)).all()


def test_shrinking_keeps_the_mean():
    images = jnp.asarray(np.random.default_rng(1).random((1, 64, 64, 3)), jnp.float32)
    np.testing.assert_allclose(shrink(images).mean(), images.mean(), atol=5e-3)


@pytest.mark.parametrize("change", [{"num_steps": 0}, {"average": 1.0}, {"learning_rate": 0.0}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=r"positive|shares"):
        TinyTrainingConfig(**change)


@pytest.mark.slow
def test_a_prompt_changes_the_world_as_a_critic_of_its_own_sees(tmp_path, monkeypatch):
    """Two prompts from the same start: each raises its own word above the other's run."""
    weights = tmp_path / "guide.npz"
    monkeypatch.setattr(tiny_guide, "default_path", lambda: weights)
    scores, shares = {}, {}
    for word in ("snow", "lake"):
        out = tmp_path / word
        VoxelsCommand(guidance="tiny", prompt=word, steps=400, out=str(out)).run()
        final = read_json(out / "summary.json")["final"]
        scores[word] = {name: after for name, (_, after) in final["critic"].items()}
        shares[word] = final["material_share"]
    assert scores["snow"]["snow"] > scores["lake"]["snow"] + 0.5
    assert scores["lake"]["lake"] > scores["snow"]["lake"] + 0.5
    assert shares["snow"]["Snow"] > 2 * shares["lake"]["Snow"]
    assert shares["lake"]["Water"] > 2 * shares["snow"]["Water"]
