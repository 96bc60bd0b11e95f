"""Cameras: where a pixel looks, and where a point lands in the image.

Axes are OpenGL's: x right, y up, the camera looks along -z; poses take camera to world.
Pixel coordinates xy are continuous, x right, y down, from the image's corner, so the centre of
pixel (row, col) is (col + 0.5, row + 0.5). "Normalised" coordinates are x right, y down on the
plane at distance 1, with the focal length and the principal point taken out.
Lens distortion is OpenCV's rational model with coefficients k1, k2, p1, p2, k3, k4, k5, k6.
Source: OpenCV's camera calibration documentation; Brown 1966 for the tangential terms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

NUM_DISTORTION = 8
_NEWTON_STEPS = 12
_MAX_NORMALISED = 1e6
_RESIDUAL_TOLERANCE = 1e-4


class Cameras(NamedTuple):
    """Any number of cameras, as NumPy arrays on the host or JAX arrays on a device.

    Attributes:
      camera_to_world: rigid transforms, rotation orthonormal, last row 0 0 0 1.
      focal: focal lengths (x, y) in pixels.
      principal: principal point (x, y) in pixels from the image's corner.
      distortion: OpenCV's k1, k2, p1, p2, k3, k4, k5, k6; zeros are a pinhole. None: all are
        pinholes, which saves compiling the lens.
    """

    camera_to_world: Float[Array | np.ndarray, "*views 4 4"]
    focal: Float[Array | np.ndarray, "*views 2"]
    principal: Float[Array | np.ndarray, "*views 2"]
    distortion: Float[Array | np.ndarray, "*views 8"] | None


class Undistorted(NamedTuple):
    """Normalised coordinates without distortion, and where the model could be inverted."""

    xy: Float[Array, "*points 2"]
    is_valid: Bool[Array, "*points"]


def make_cameras(
    camera_to_world: Float[np.ndarray, "views 4 4"],
    focal: Float[np.ndarray, "... 2"],
    principal: Float[np.ndarray, "... 2"],
    distortion: Float[np.ndarray, "... 8"] | None = None,
) -> Cameras:
    """Builds float32 cameras on the host; intrinsics given once are shared by all views."""
    num_views = len(camera_to_world)
    distortion = np.zeros(NUM_DISTORTION) if distortion is None else distortion

    def spread(values: np.ndarray, width: int) -> np.ndarray:
        return np.broadcast_to(values, (num_views, width)).astype(np.float32)

    return Cameras(
        camera_to_world=np.asarray(camera_to_world, np.float32),
        focal=spread(focal, 2),
        principal=spread(principal, 2),
        distortion=spread(distortion, NUM_DISTORTION),
    )


def select(cameras: Cameras, view: Int[Array | np.ndarray, "*rays"] | int) -> Cameras:
    """Gathers one camera per entry of `view`; an index out of range is clamped to the ends."""
    last = cameras.focal.shape[0] - 1
    view = jnp.clip(jnp.asarray(view), 0, last)
    return jax.tree.map(lambda field: jnp.asarray(field)[view], cameras)


def without_lens(cameras: Cameras) -> Cameras:
    """Leaves distortion out where no camera has any; the rays stay the same bit for bit."""
    if cameras.distortion is None or np.any(np.asarray(cameras.distortion)):
        return cameras
    return cameras._replace(distortion=None)


def scale_pixels(cameras: Cameras, factor: Float[np.ndarray, " 2"]) -> Cameras:
    """Cameras of the same views with images resized by `factor` (x, y); 0.5 halves them."""
    factor = np.asarray(factor, np.float32)
    return cameras._replace(
        focal=cameras.focal * factor,
        principal=cameras.principal * factor,
    )


def opengl_from_opencv(
    camera_to_world: Float[np.ndarray, "*views 4 4"],
) -> Float[np.ndarray, "*views 4 4"]:
    """Turns poses with OpenCV's camera axes (y down, looks along +z) to OpenGL's.

    It is its own inverse.
    """
    return np.asarray(camera_to_world) * np.array([1.0, -1.0, -1.0, 1.0])


def distort(
    distortion: Float[Array | np.ndarray, "*#points 8"],
    xy: Float[Array | np.ndarray, "*#points 2"],
) -> Float[Array, "*points 2"]:
    """Applies the lens to normalised coordinates.

    Bad input: where the rational model's denominator vanishes the result is not finite.
    """
    xy = jnp.asarray(xy)
    lens = _lens(jnp.asarray(distortion), xy[..., 0], xy[..., 1])
    return jnp.stack([lens.u, lens.v], axis=-1)


def undistort(
    distortion: Float[Array | np.ndarray, "*#points 8"],
    xy: Float[Array | np.ndarray, "*#points 2"],
) -> Undistorted:
    """Inverts `distort` by Newton's method, at most 12 steps.

    Without distortion the coordinates come back bit for bit. Derivatives are those of the
    inverse function, not of the iteration.

    Returns:
      The solution nearest to the centre, with is_valid True. Where the model folds back and has
      no such solution: the iterate of least error, finite, with is_valid False.
    """
    distortion, xy = jnp.asarray(distortion), jnp.asarray(xy)
    shape = jnp.broadcast_shapes(distortion.shape[:-1], xy.shape[:-1])
    u, v = (jnp.broadcast_to(xy[..., axis], shape) for axis in (0, 1))
    best, error = _search(*jax.lax.stop_gradient((distortion, u, v)))
    # the last Newton step carries the derivative: d best / d target is the inverse Jacobian
    fixed = jax.lax.stop_gradient(_lens(distortion, *best))
    moving = _lens(distortion, *best)
    is_valid = (error <= _RESIDUAL_TOLERANCE) & (fixed.determinant > 0)
    step = fixed.solve(moving.u - u, moving.v - v)
    moved = [jnp.where(is_valid, x - dx, x) for x, dx in zip(best, step, strict=True)]
    return Undistorted(jnp.stack(moved, axis=-1), is_valid)


def pixel_directions(
    cameras: Cameras,
    view: Int[Array | np.ndarray, "*rays"] | int,
    xy: Float[Array | np.ndarray, "*rays 2"],
) -> Float[Array, "*rays 3"]:
    """Directions in camera axes through pixels `xy`, at distance 1 along the optical axis.

    Their length turns planar depth into distance along the ray.
    """
    camera = select(cameras, view)
    normalised = (jnp.asarray(xy) - camera.principal) / camera.focal
    lens = camera.distortion
    plane = normalised if lens is None else undistort(lens, normalised).xy
    return jnp.stack([plane[..., 0], -plane[..., 1], -jnp.ones_like(plane[..., 0])], axis=-1)


def project(
    cameras: Cameras,
    view: Int[Array | np.ndarray, "*rays"] | int,
    points: Float[Array | np.ndarray, "*rays 3"],
) -> tuple[Float[Array, "*rays 2"], Float[Array, "*rays"]]:
    """Projects world points into the image of camera `view`.

    Returns:
      (xy, planar_depth): pixel coordinates, and the distance along the optical axis.
      Points at or behind the camera's plane have planar_depth <= 0 and the principal point as xy.
    """
    camera = select(cameras, view)
    rotation = camera.camera_to_world[..., :3, :3]
    offset = jnp.asarray(points) - camera.camera_to_world[..., :3, 3]
    local = jnp.sum(rotation * offset[..., :, None], axis=-2)  # rotation transposed @ offset
    depth = -local[..., 2]
    is_ahead = depth > 0
    safe = jnp.where(is_ahead, depth, 1.0)
    plane = jnp.stack([local[..., 0], -local[..., 1]], axis=-1) / safe[..., None]
    plane = jnp.where(is_ahead[..., None], plane, 0.0)
    bent = plane if camera.distortion is None else distort(camera.distortion, plane)
    return bent * camera.focal + camera.principal, depth


class _Lens(NamedTuple):
    """The distorted point (u, v) and its derivative; the matrix is symmetric."""

    u: Array
    v: Array
    u_x: Array
    u_y: Array
    v_y: Array

    @property
    def determinant(self) -> Array:
        return self.u_x * self.v_y - self.u_y * self.u_y

    def solve(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Applies the inverse of the derivative; a singular one gives zero."""
        is_regular = jnp.abs(self.determinant) > 1e-12
        safe = jnp.where(is_regular, self.determinant, 1.0)
        x, y = (self.v_y * a - self.u_y * b) / safe, (self.u_x * b - self.u_y * a) / safe
        is_regular &= jnp.isfinite(x) & jnp.isfinite(y)
        return jnp.where(is_regular, x, 0.0), jnp.where(is_regular, y, 0.0)


def _lens(distortion: Array, x: Array, y: Array) -> _Lens:
    """Evaluates the lens by components, which compiles to one loop."""
    k1, k2, p1, p2, k3, k4, k5, k6 = jnp.moveaxis(distortion, -1, 0)
    r2 = x * x + y * y
    top = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = top / bottom
    slope_top = k1 + r2 * (2 * k2 + 3 * r2 * k3)
    slope_bottom = k4 + r2 * (2 * k5 + 3 * r2 * k6)
    slope = 2 * (slope_top - radial * slope_bottom) / bottom  # d radial / d r2, times 2
    return _Lens(
        u=x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        v=y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        u_x=radial + slope * x * x + 2 * p1 * y + 6 * p2 * x,
        u_y=slope * x * y + 2 * p1 * x + 2 * p2 * y,
        v_y=radial + slope * y * y + 6 * p1 * y + 2 * p2 * x,
    )


def _search(distortion: Array, u: Array, v: Array) -> tuple[tuple[Array, Array], Array]:
    """Newton's iterations from the distorted point: the best point found, and its error."""
    converged = 4 * jnp.finfo(u.dtype).eps * (1 + jnp.maximum(jnp.abs(u), jnp.abs(v)))

    def is_open(carry: tuple[Array, ...]) -> Array:
        count, error = carry[0], carry[-1]
        return (count < _NEWTON_STEPS) & jnp.any(error > converged)

    def body(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        count, x, y, best_x, best_y, error = carry
        lens = _lens(distortion, x, y)
        size = jnp.maximum(jnp.abs(lens.u - u), jnp.abs(lens.v - v))
        # a point that has converged keeps its value however long the others take
        is_better = (size < error) & (error > converged)  # never true for a size that is NaN
        best_x, best_y = jnp.where(is_better, x, best_x), jnp.where(is_better, y, best_y)
        error = jnp.where(is_better, size, error)
        # a step across the fold of the lens would land on the wrong branch
        limit = 0.5 + jnp.maximum(jnp.abs(x), jnp.abs(y))
        dx, dy = (jnp.clip(d, -limit, limit) for d in lens.solve(lens.u - u, lens.v - v))
        x, y = (jnp.clip(z, -_MAX_NORMALISED, _MAX_NORMALISED) for z in (x - dx, y - dy))
        return count + 1, x, y, best_x, best_y, error

    start = (jnp.int32(0), u, v, u, v, jnp.full_like(u, jnp.inf))
    _, _, _, best_x, best_y, error = jax.lax.while_loop(is_open, body, start)
    return (best_x, best_y), error
