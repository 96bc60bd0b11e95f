"""Prompts the project's own small guide understands: which features a procedural world has.

A prompt is a few of the words below, "snow lake" say; words left out are absent. The empty prompt
says nothing at all, which is not the same as a world with none of them.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from ..procedural import WorldConfig

WORDS = ("lake", "snow", "hills", "towers")


def parse_prompt(text: str) -> Float[np.ndarray, " words"]:
    """1 for each word of the prompt, 0 for the others; NaN throughout for the empty prompt.

    Raises:
      ValueError: for a word that is not known, listing those that are.

    Examples:
      >>> parse_prompt("snow, towers")
      array([0., 1., 0., 1.], dtype=float32)
    """
    words = text.replace(",", " ").lower().split()
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(f"the prompt knows {', '.join(WORDS)}; got {', '.join(unknown)}")
    if not words:
        return np.full(len(WORDS), np.nan, np.float32)
    return np.array([word in words for word in WORDS], np.float32)


def world_with(
    base: WorldConfig, has: Float[np.ndarray, " words"], random: np.random.Generator
) -> WorldConfig:
    """A kind of world that has what `has` says, with the amounts left to chance."""
    lake, snow, hills, towers = (bool(x > 0.5) for x in has)
    return dataclasses.replace(
        base,
        water=float(random.uniform(0.2, 0.35)) if lake else 0.0,
        snow=float(random.uniform(0.0, 0.15)) if snow else 2.0,
        roughness=float(random.uniform(0.55, 0.75)) if hills else float(random.uniform(0.15, 0.3)),
        num_houses=0,
        num_towers=int(random.integers(2, 5)) if towers else 0,
    )
