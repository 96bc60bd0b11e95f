"""The examples for other people's training loops learn, and draw where the error is."""

import importlib

import pytest

from examples import error_weighted_jax


def test_the_loop_in_jax_learns():
    losses = error_weighted_jax.main(num_steps=60)
    assert losses[-1] < 0.6 * losses[0]


def test_the_loop_in_torch_learns():
    pytest.importorskip("torch")
    losses = importlib.import_module("examples.error_weighted_torch").main(num_steps=60)
    assert losses[-1] < 0.6 * losses[0]
