"""What a good block world looks like, apart from its pictures: priors on the grid itself.

All are means, so their weights do not depend on the grid's size. Occupancy is
o = sigmoid(logit), p are the material probabilities. Each is differentiable everywhere.
Functional losses follow Earle et al. 2024 (DreamCraft): shares of blocks and wanted neighbours.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .grid import VoxelGrid, binary_entropy


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
