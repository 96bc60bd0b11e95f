"""What is particular to single views, learned beside the field: colours, appearance and pose.

Colours: view v shows A_v c + b_v where the field has colour c: exposure, gain and white balance of
a camera left on automatic. Appearance: what differs from place to place in the picture, such as
light that moves; the first layer of the field's colour network adds e_v, a code of the view that
the layer has been applied to already. Poses: the rays of view v start t_v further and are turned
around their camera by the rotation vector r_v. All are measured from their mean over the views, so
the field keeps the scene's own look, place and orientation, and pictures from new cameras need no
correction.

Source: Rematas et al. 2022 (Urban Radiance Fields), section 3.2, for affine colours; Lin et al.
2021 (BARF) for poses as parameters of the training; rotation and translation apart, as in
nerfstudio's camera optimizer; Martin-Brualla et al. 2021 (NeRF in the Wild), section 4.1, for codes
of appearance, which leave the density alone.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from scenes.rays import Rays

from .spaces import SceneBounds
from .volume_rendering import RenderedRays

COLLECTION = "views"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrectionConfig:
    """Which corrections are learned, and how fast. All off: the step compiles without them."""

    colors: bool = False
    appearance: bool = False
    poses: bool = False
    color_rate: float = 0.1
    """Learning rate over that of the field."""
    appearance_rate: float = 0.1
    """Learning rate over that of the field."""
    pose_rate: float = 0.003
    """Learning rate over that of the field, of radians and of widths of the scene's box."""
    color_decay: float = 1e-3
    """Weight of the mean squared correction of the colours in the loss."""
    appearance_decay: float = 1e-3
    """Weight of the mean square of the codes in the loss."""

    def __post_init__(self):
        """Refuses rates that cannot learn."""
        for name in ("color_rate", "appearance_rate", "pose_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"corrections {name} must be positive, got {getattr(self, name)}")
        for name in ("color_decay", "appearance_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"corrections {name} must not be negative, got {getattr(self, name)}"
                )

    @property
    def is_used(self) -> bool:
        """Whether there is anything to learn."""
        return self.colors or self.appearance or self.poses


def init(config: CorrectionConfig, num_views: int, color_width: int) -> dict[str, Any]:
    """Makes the parameters of no correction, to be merged into those of the field; {} when off.

    Args:
      color_width: of the hidden layers of the field's colour network.
    Raises:
      ValueError: when corrections are wanted and there are no views.
    """
    if not config.is_used:
        return {}
    if num_views < 1:
        raise ValueError(f"corrections need the number of views, got {num_views}")
    found = {}
    if config.colors:
        found["colors"] = jnp.zeros((num_views, 3, 4))
    if config.appearance:
        found["appearance"] = jnp.zeros((num_views, color_width))
    if config.poses:
        found["poses"] = jnp.zeros((num_views, 6))
    return {COLLECTION: found}


def scale_updates(config: CorrectionConfig) -> optax.GradientTransformation:
    """Gives the corrections their own learning rates; other updates stay as they are."""
    factors = {
        "colors": config.color_rate,
        "appearance": config.appearance_rate,
        "poses": config.pose_rate,
    }

    def scale(updates: Any, params: Any) -> Any:
        del params
        found = updates.get(COLLECTION, {})
        return {**updates, COLLECTION: {name: factors[name] * found[name] for name in found}}

    return optax.stateless(scale)


def move_rays(
    config: CorrectionConfig,
    params: Any,
    view: Int[Array, " rays"],
    rays: Rays,
    bounds: SceneBounds,
) -> Rays:
    """Moves rays as their views' poses were corrected; a translation of 1 is the box's width."""
    if not config.poses:
        return rays
    pose = _centred(params[COLLECTION]["poses"])[view]
    return Rays(
        origins=rays.origins + jnp.max(bounds.aabb[1] - bounds.aabb[0]) * pose[:, :3],
        directions=rotate(pose[:, 3:], rays.directions),
    )


def recolor(
    config: CorrectionConfig, params: Any, view: Int[Array, " rays"], rendered: RenderedRays
) -> RenderedRays:
    """Shows rendered rays as their views' cameras saw them. Colours are premultiplied."""
    if not config.colors:
        return rendered
    affine = _centred(params[COLLECTION]["colors"])[view]
    change = jnp.sum(affine[:, :, :3] * rendered.color[:, None, :], axis=-1)
    change = change + affine[:, :, 3] * rendered.opacity[:, None]
    return rendered._replace(color=rendered.color + change)


def color_bias(
    config: CorrectionConfig, params: Any, view: Int[Array, " rays"]
) -> Float[Array, "rays width"] | None:
    """What the colour network adds for the views of some rays; None where that is not learned."""
    if not config.appearance:
        return None
    return _centred(params[COLLECTION]["appearance"])[view]


def penalty(config: CorrectionConfig, params: Any) -> Float[Array, ""] | float:
    """What corrected colours and appearance cost, so that the field explains what it can."""
    decays = {"colors": config.color_decay, "appearance": config.appearance_decay}
    learned = params.get(COLLECTION, {})
    costs = (
        decay * jnp.mean(jnp.square(learned[name]))
        for name, decay in decays.items()
        if name in learned
    )
    return sum(costs, start=0.0)


def rotate(
    rotation: Float[Array, "*rays 3"], vectors: Float[Array, "*rays 3"]
) -> Float[Array, "*rays 3"]:
    """Turns vectors by rotation vectors (axis times angle, radians), by Rodrigues' formula.

    Smooth at angle 0, where the first terms of the series are used.
    """
    squared = jnp.sum(rotation * rotation, axis=-1, keepdims=True)
    is_small = squared < 1e-6
    angle = jnp.sqrt(jnp.where(is_small, 1.0, squared))
    sine = jnp.where(is_small, 1.0 - squared / 6.0, jnp.sin(angle) / angle)
    cosine = jnp.where(is_small, 0.5 - squared / 24.0, (1.0 - jnp.cos(angle)) / jnp.square(angle))
    once = jnp.cross(rotation, vectors)
    return vectors + sine * once + cosine * jnp.cross(rotation, once)


def _centred(values):
    return values - jnp.mean(values, axis=0, keepdims=True)
