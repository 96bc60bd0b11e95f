"""A judge of prompts that no guide has seen: ridge regression on the colours of pictures.

It is fitted to worlds of its own and knows only how often colours occur in each third of a
picture, so a world cannot please it by fooling a denoiser's network.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_LEVELS = 5
_BANDS = 3
_RIDGE = 1e-3


class Critic(NamedTuple):
    """One linear score per word: above 0 the word is true of a picture, about 1 where it is."""

    weights: Float[np.ndarray, "features words"]
    offset: Float[np.ndarray, " words"]


def fit_critic(
    images: Float[np.ndarray, "pictures rows cols 3"], has: Float[np.ndarray, "pictures words"]
) -> Critic:
    """Fits scores of +1 and -1 to pictures in [0, 1] and the words that are true of them."""
    features = color_shares(images)
    wanted = 2.0 * np.asarray(has, np.float64) - 1.0
    centre, offset = features.mean(0), wanted.mean(0)
    shifted = features - centre
    gram = shifted.T @ shifted / len(features) + _RIDGE * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, shifted.T @ (wanted - offset) / len(features))
    return Critic(weights, offset - centre @ weights)


def score(
    critic: Critic, images: Float[np.ndarray, "pictures rows cols 3"]
) -> Float[np.ndarray, " words"]:
    """Mean score of each word over pictures in [0, 1] of one world."""
    return (color_shares(images) @ critic.weights + critic.offset).mean(0)


def color_shares(
    images: Float[np.ndarray, "pictures rows cols 3"],
) -> Float[np.ndarray, "pictures features"]:
    """Share of each of 125 colours in the upper, middle and lower third; square roots, so that
    a few pixels of a colour count."""
    bins = np.clip((np.asarray(images) * _LEVELS).astype(int), 0, _LEVELS - 1)
    number = (bins[..., 0] * _LEVELS + bins[..., 1]) * _LEVELS + bins[..., 2]
    rows = []
    for picture in number:
        bands = np.array_split(picture, _BANDS)
        counts = [np.bincount(b.ravel(), minlength=_LEVELS**3) / b.size for b in bands]
        rows.append(np.sqrt(np.concatenate(counts)))
    return np.stack(rows)
