"""Strict switches for every test: fixed examples, no silent broadcasting, a compile cache."""

import os

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_numpy_rank_promotion", "raise")

_CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR")
if _CACHE:
    jax.config.update("jax_compilation_cache_dir", _CACHE)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

_SLOW_START = (HealthCheck.too_slow, HealthCheck.data_too_large)
settings.register_profile(
    "dev", max_examples=10, deadline=None, derandomize=True, suppress_health_check=_SLOW_START
)
settings.register_profile(
    "nightly", max_examples=1000, deadline=None, print_blob=True, suppress_health_check=_SLOW_START
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture(scope="session")
def data_folder():
    """Gives the folder of shared test data, or skips."""
    folder = os.environ.get("HARDLIGHT_DATA")
    if not folder:
        pytest.skip("HARDLIGHT_DATA is not set")
    return folder
