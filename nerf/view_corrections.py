"""What single views get wrong, learned beside the field: the colours of a photograph and its pose.

Colours: view v shows A_v c + b_v where the field has colour c: exposure, gain and white balance of
a camera left on automatic. Poses: the rays of view v start t_v further and are turned around their
camera by the rotation vector r_v. All four are measured from their mean over the views, so the
field keeps the scene's own exposure, place and orientation, and pictures from new cameras need no
correction.

Source: Rematas et al. 2022 (Urban Radiance Fields), section 3.2, for affine colours; Lin et al.
2021 (BARF) for poses as parameters of the training; rotation and translation apart, as in
nerfstudio's camera optimizer.
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
    """Which corrections are learned, and how fast. Both off: the step compiles without them."""

    colors: bool = False
    poses: bool = False
    color_rate: float = 0.1
    """Learning rate over that of the field."""
    pose_rate: float = 0.003
    """Learning rate over that of the field, of radians and of widths of the scene's box."""
    color_decay: float = 1e-3
    """Weight of the mean squared correction of the colours in the loss."""

    def __post_init__(self):
        """Refuses rates that cannot learn."""
        for name in ("color_rate", "pose_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"corrections {name} must be positive, got {getattr(self, name)}")
        if not self.color_decay >= 0:
            raise ValueError(
                f"corrections color_decay must not be negative, got {self.color_decay}"
            )

    @property
    def is_used(self) -> bool:
        """Whether there is anything to learn."""
        return self.colors or self.poses


def init(config: CorrectionConfig, num_views: int) -> dict[str, Any]:
    """Makes the parameters of no correction, to be merged into those of the field; {} when off.

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
    if config.poses:
        found["poses"] = jnp.zeros((num_views, 6))
    return {COLLECTION: found}


def scale_updates(config: CorrectionConfig) -> optax.GradientTransformation:
    """Gives the corrections their own learning rates; other updates stay as they are."""
    factors = {"colors": config.color_rate, "poses": config.pose_rate}

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


def penalty(config: CorrectionConfig, params: Any) -> Float[Array, ""] | float:
    """What corrected colours cost, so that the field explains what it can."""
    if not config.colors:
        return 0.0
    return config.color_decay * jnp.mean(jnp.square(params[COLLECTION]["colors"]))


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
