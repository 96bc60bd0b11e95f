"""What a good block world looks like, apart from its pictures: priors on the grid itself.

All are means, so their weights do not depend on the grid's size. Occupancy is
o = sigmoid(logit), p are the material probabilities. Each is differentiable everywhere.
Functional losses follow Earle et al. 2024 (DreamCraft): shares of blocks and wanted neighbours.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .grid import VoxelGrid, binary_entropy
from .palette import AIR


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossWeights:
    """How much each prior counts; 0 leaves it out of the compiled step.

    Attributes:
      sparsity: mean occupancy.
      occupancy_entropy: indecision between block and air.
      material_entropy: indecision between materials, where there is a block.
      smoothness: squared difference of occupancy between neighbours.
      distribution: distance of the materials' shares to `Priors.share`.
      adjacency: reward of `Priors.adjacency` over pairs stacked along +Y.
    """

    sparsity: float = 1e-5
    occupancy_entropy: float = 0.0
    material_entropy: float = 0.0
    smoothness: float = 0.0
    distribution: float = 0.0
    adjacency: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not 0 <= getattr(self, field.name) < float("inf"):
                raise ValueError(f"{field.name} must be a finite weight of at least 0")


class Priors(NamedTuple):
    """Targets of the functional losses.

    Attributes:
      share: wanted share of each material among the blocks; sums to one.
      adjacency: reward of [below, above] for each pair, materials first and air last.
    """

    share: Float[Array, " materials"]
    adjacency: Float[Array, "kinds kinds"]


def neutral_priors(num_materials: int) -> Priors:
    """Equal shares and no rewards."""
    share = jnp.full(num_materials, 1.0 / num_materials)
    return Priors(share, jnp.zeros((num_materials + 1, num_materials + 1)))


def make_priors(
    names: Sequence[str],
    shares: Mapping[str, float],
    rewards: Mapping[tuple[str, str], float],
    before: Mapping[str, float] | None = None,
) -> Priors:
    """Targets by name.

    Args:
      names: the materials of the palette.
      shares: of some materials; the others share the rest.
      before: shares in whose proportion they do; None, or none of theirs: equally.
      rewards: of (below, above), which may be "Air".
    Raises:
      ValueError: an unknown material, or shares that do not add up to one.
    """
    kinds = [*names, AIR]
    unknown = sorted({*shares, *itertools.chain(*rewards)} - set(kinds))
    if unknown or AIR in shares:
        raise ValueError(
            f"no material {unknown[0] if unknown else AIR!r} to wish for: {', '.join(names)}"
        )
    total, others = math.fsum(shares.values()), len(names) - len(shares)
    if total > 1 + 1e-6 or (not others and total < 1 - 1e-6):
        raise ValueError(f"the wanted shares add up to {total:g}, not to 1")
    weight = {name: (before or {}).get(name, 0.0) for name in names if name not in shares}
    if not sum(weight.values()):
        weight = dict.fromkeys(weight, 1.0)
    rest = max(0.0, 1.0 - total) / max(sum(weight.values()), 1e-12)
    reward = np.zeros((len(kinds), len(kinds)), np.float32)
    for (below, above), value in rewards.items():
        reward[kinds.index(below), kinds.index(above)] = value
    wanted = {name: rest * value for name, value in weight.items()} | dict(shares)
    share = np.array([wanted[name] for name in names], np.float32)
    return Priors(jnp.asarray(share), jnp.asarray(reward))


def sparsity(grid: VoxelGrid) -> Float[Array, ""]:
    """Mean occupancy."""
    return jnp.mean(jax.nn.sigmoid(grid.occupancy_logits))


def occupancy_entropy(grid: VoxelGrid) -> Float[Array, ""]:
    """Mean entropy in nats of being there; log 2 at most."""
    return jnp.mean(binary_entropy(grid.occupancy_logits))


def material_entropy(grid: VoxelGrid) -> Float[Array, ""]:
    """Mean over all cells of occupancy times the entropy in nats of the material.

    Occupancy only weighs here: it gets no gradient, or mixed blocks would vanish.
    """
    log_probs = jax.nn.log_softmax(grid.material_logits)
    entropy = -jnp.sum(jnp.exp(log_probs) * log_probs, axis=-1)
    return jnp.mean(jax.lax.stop_gradient(jax.nn.sigmoid(grid.occupancy_logits)) * entropy)


def smoothness(grid: VoxelGrid) -> Float[Array, ""]:
    """Mean squared difference of occupancy, summed over the three axes; 0 along an axis of 1."""
    occupancy = jax.nn.sigmoid(grid.occupancy_logits)
    return sum(
        (
            jnp.mean(jnp.square(jnp.diff(occupancy, axis=axis)))
            for axis in range(3)
            if occupancy.shape[axis] > 1
        ),
        jnp.zeros((), occupancy.dtype),
    )


def distribution(grid: VoxelGrid, share: Float[Array, " materials"]) -> Float[Array, ""]:
    """Half the L1 distance between the materials' expected shares and the wanted ones, 0 to 1."""
    occupancy = jax.nn.sigmoid(grid.occupancy_logits)
    amount = jnp.einsum(
        "xyz,xyzm->m", occupancy, jax.nn.softmax(grid.material_logits), precision="highest"
    )
    return 0.5 * jnp.sum(jnp.abs(amount / jnp.maximum(jnp.sum(amount), 1e-12) - share))


def adjacency(grid: VoxelGrid, reward: Float[Array, "kinds kinds"]) -> Float[Array, ""]:
    """Minus the mean expected reward of the cells above each other; air is the last kind."""
    occupancy = jax.nn.sigmoid(grid.occupancy_logits)[..., None]
    solid = occupancy * jax.nn.softmax(grid.material_logits)
    kinds = jnp.concatenate([solid, 1.0 - occupancy], axis=-1)
    below, above = kinds[:, :-1], kinds[:, 1:]
    total = jnp.einsum("xyzi,ij,xyzj->", below, reward, above, precision="highest")
    return -total / max(1, below.size // below.shape[-1])


def grid_loss(
    weights: LossWeights, grid: VoxelGrid, priors: Priors
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """Weighted sum of the priors in use, and each of them unweighted."""
    parts = {}
    if weights.sparsity:
        parts["sparsity"] = sparsity(grid)
    if weights.occupancy_entropy:
        parts["occupancy_entropy"] = occupancy_entropy(grid)
    if weights.material_entropy:
        parts["material_entropy"] = material_entropy(grid)
    if weights.smoothness:
        parts["smoothness"] = smoothness(grid)
    if weights.distribution:
        parts["distribution"] = distribution(grid, priors.share)
    if weights.adjacency:
        parts["adjacency"] = adjacency(grid, priors.adjacency)
    total = sum((getattr(weights, k) * v for k, v in parts.items()), jnp.zeros(()))
    return total, parts
