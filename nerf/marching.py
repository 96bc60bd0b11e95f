"""Ray marching with empty-space skipping under a fixed budget of samples.

Notation: x is the marching coordinate of `spaces` (in a bounded scene the distance along the unit
direction). A ray enters the scene at x_in and leaves at x_out. Its candidate k is an interval of
length `step` with one offset u in [0, 1) per ray. Candidates whose midpoint lies in an occupied
cell become samples; the samples of all rays are packed end to end into `budget` slots.

    candidate      x_k = x_in + (k + u) step,   k = 0 .. num_candidates - 1,   x_k < x_out
    sample         the interval [x_k - step/2, x_k + step/2], evaluated at x_k

Nothing is dropped silently. A ray is either packed whole or not at all; `kept` says which, `needed`
says how many slots all rays together asked for. The train step leaves rays that were not kept out
of its loss and widens `step` (see `next_step_scale`); the image renderer takes several packs
(`pack_next`), until every ray is through or opaque, and so never drops anything.

The compaction has no scatter and no sort: the mask of a ray is stored as 32-bit words, a slot finds
its word by binary search in the running count and its bit by five halvings, so the cost is O(rays *
candidates / 32 + budget * log).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from scenes.posed_images import SceneKind
from scenes.rays import Rays, intersect_box

from . import occupancy, spaces
from .occupancy import OccupancyConfig, OccupancyState
from .spaces import SceneBounds


@dataclasses.dataclass(frozen=True, kw_only=True)
class MarchingConfig:
    """How rays are cut into samples."""

    space: SceneKind = "bounded"
    """The scene's kind: decides steps and grid coordinates, see `spaces`."""
    budget: int = 32768
    """Slots for samples in one step or pack."""
    num_candidates: int = 384
    """Longest march, in steps; a multiple of 32."""
    max_step_scale: float = 16.0
    """How far a step may be widened when the samples do not fit the budget."""
    num_coarse: int = 0
    """Densities looked at along each ray before its samples are placed where the field absorbs
    light, see `importance`; 0: samples lie in even steps."""
    uniform_fraction: float = 0.2
    """Share of such samples that lies evenly over the occupied parts of the ray."""
    near_gradients: float = 0.0
    """Distance, in widths of an unbounded scene's box, within which the slopes of samples are made
    smaller by the square of their distance, see `rendering.scale_gradients`; 0: none are."""
    target_fill: float = 0.95
    """Share of the budget that the step controller aims at."""

    def __post_init__(self):
        """Refuses settings that cannot be packed."""
        if self.budget < 1:
            raise ValueError(f"marching budget must be at least 1, got {self.budget}")
        if self.num_candidates < 32 or self.num_candidates % 32:
            raise ValueError(
                f"num_candidates must be a positive multiple of 32, got {self.num_candidates}"
            )
        if self.num_coarse < 0 or not 0.0 < self.uniform_fraction <= 1.0:
            raise ValueError(
                "num_coarse must not be negative and uniform_fraction inside (0, 1], "
                f"got {self.num_coarse} and {self.uniform_fraction}"
            )
        if not self.near_gradients >= 0.0:
            raise ValueError(f"near_gradients must not be negative, got {self.near_gradients}")
        if self.max_step_scale < 1.0 or not 0.0 < self.target_fill <= 1.0:
            raise ValueError(
                "max_step_scale must be at least 1 and target_fill inside (0, 1], "
                f"got {self.max_step_scale} and {self.target_fill}"
            )


class Candidates(NamedTuple):
    """Occupied candidates of each ray, one bit each."""

    start: Float[Array, " rays"]
    """Marching coordinate of candidate 0."""
    step: Float[Array, ""]
    """Length of a candidate's interval, in the marching coordinate."""
    words: UInt32[Array, "rays words"]
    """Bit j of word w is candidate 32 w + j."""
    ends: Int[Array, " all_words"]
    """Running count of samples, ray after ray, including the word."""


class PackedSamples(NamedTuple):
    """Samples of all rays, end to end.

    Slots that are not used repeat the last ray with `valid` False.
    """

    ray: Int[Array, " budget"]
    distance: Float[Array, " budget"]
    length: Float[Array, " budget"]
    """Length of the sample's interval, in scene units; 0 in unused slots."""
    place: Float[Array, " budget"]
    """The distance as a marching coordinate."""
    width: Float[Array, " budget"]
    """The length in the marching coordinate; 0 in unused slots."""
    valid: Bool[Array, " budget"]


def find_candidates(
    config: MarchingConfig,
    grid_config: OccupancyConfig,
    grid: OccupancyState,
    bounds: SceneBounds,
    rays: Rays,
    *,
    step: Float[Array, ""] | float,
    offset: Float[Array, " rays"],
) -> Candidates:
    """Marks the candidates of each ray that lie in occupied cells.

    Args:
      step: length of a step in the marching coordinate. A march longer than num_candidates steps
        stops there; choose the step with `shortest_step` so that this cannot happen.
      offset: position of the first candidate within its step, in [0, 1); 1/2 for evaluation.
    """
    find = _hits_in_box if config.space == "bounded" else _hits_in_warp
    start, hit = find(config, grid_config, grid, bounds, rays, step, offset)
    bits = (
        hit.reshape(hit.shape[0], -1, 32).astype(jnp.uint32)
        << np.arange(32, dtype=np.uint32)[None, None, :]
    )
    words = jnp.sum(bits, axis=-1, dtype=jnp.uint32)
    counts = jax.lax.population_count(words).astype(jnp.int32)
    return Candidates(
        start=start, step=jnp.asarray(step), words=words, ends=jnp.cumsum(counts.reshape(-1))
    )


def num_needed(candidates: Candidates) -> Int[Array, ""]:
    """Counts the slots that all rays together need."""
    return candidates.ends[-1]


def num_samples(candidates: Candidates) -> Int[Array, " rays"]:
    """Counts the samples of each ray."""
    ends = candidates.ends.reshape(candidates.words.shape)[:, -1]
    return jnp.diff(ends, prepend=0)


def kept_rays(config: MarchingConfig, candidates: Candidates) -> Bool[Array, " rays"]:
    """Says which rays fit whole into the first `budget` slots."""
    ends = candidates.ends.reshape(candidates.words.shape)[:, -1]
    return ends <= config.budget


def pack(
    config: MarchingConfig,
    candidates: Candidates,
    bounds: SceneBounds,
    *,
    first: Int[Array, ""] | int = 0,
) -> PackedSamples:
    """Packs the samples numbered first .. first + budget - 1, counted ray after ray.

    A ray may be cut at either end of a pack; `kept_rays` says which rays are whole when first is 0.
    """
    slot = first + jnp.arange(config.budget, dtype=jnp.int32)
    return _samples(config, candidates, bounds, slot, slot < candidates.ends[-1])


def pack_next(
    config: MarchingConfig,
    candidates: Candidates,
    bounds: SceneBounds,
    taken: Int[Array, " rays"],
    alive: Bool[Array, " rays"],
) -> tuple[PackedSamples, Int[Array, " rays"]]:
    """Packs the next samples of every ray that is alive, an equal share of the slots for each.

    Args:
      taken: samples of each ray that earlier packs held.
    Returns:
      The samples, and `taken` with them counted.
    """
    ends = candidates.ends.reshape(candidates.words.shape)[:, -1]
    count = num_samples(candidates)
    before = ends - count
    left = jnp.where(alive, count - taken, 0)
    share = jnp.maximum(config.budget // jnp.maximum(jnp.sum(left > 0), 1), 1)
    wanted = jnp.minimum(left, share)
    stop = jnp.cumsum(wanted)
    start = stop - wanted
    slot = jnp.arange(config.budget, dtype=jnp.int32)
    valid = slot < stop[-1]
    ray = jnp.searchsorted(stop, slot, side="right", method="scan")
    ray = jnp.minimum(ray, ends.shape[0] - 1)
    number = jnp.where(valid, (before + taken - start)[ray] + slot, ends[-1])
    taken = taken + jnp.clip(config.budget - start, 0, wanted)
    return _samples(config, candidates, bounds, number, valid), taken


def occupied_before(candidates: Candidates, x: Float[Array, " rays"]) -> Float[Array, " rays"]:
    """Measures how much of each ray is occupied before its coordinate x, in the same unit.

    Bad input: NaN counts as the ray's beginning.
    """
    num_rays, num_words = candidates.words.shape
    last = 32.0 * num_words
    place = (x - candidates.start) / candidates.step + 0.5
    place = jnp.where(place > 0.0, jnp.minimum(place, last), 0.0)
    whole = jnp.minimum(jnp.floor(place), last - 1.0).astype(jnp.int32)
    word, bit = whole // 32, (whole % 32).astype(jnp.uint32)
    ends = candidates.ends.reshape(num_rays, num_words)
    ray = jnp.arange(num_rays)
    bits = candidates.words[ray, word]
    below = bits & ((np.uint32(1) << bit) - np.uint32(1))
    before = ends[ray, word] - jax.lax.population_count(bits).astype(jnp.int32)
    before = before + jax.lax.population_count(below).astype(jnp.int32)
    first = ends[:, -1] - num_samples(candidates)
    is_inside = ((bits >> bit) & np.uint32(1)).astype(jnp.float32)
    return candidates.step * ((before - first) + is_inside * (place - whole))


def place_on_occupied(
    config: MarchingConfig,
    candidates: Candidates,
    bounds: SceneBounds,
    y: Float[Array, "rays samples"],
    width: Float[Array, "rays samples"],
) -> PackedSamples:
    """Makes samples of places given by how much of the ray is occupied before them.

    Args:
      y: rising along each ray, between 0 and the ray's occupied length.
      width: of each sample's interval, in the same unit.
    Returns:
      rays * samples samples, ray after ray; those of rays with nothing occupied are not valid.
    """
    num_rays, num_words = candidates.words.shape
    count = num_samples(candidates)
    first = candidates.ends.reshape(num_rays, num_words)[:, -1] - count
    steps = y / candidates.step
    rank = jnp.clip(jnp.floor(steps).astype(jnp.int32), 0, jnp.maximum(count - 1, 0)[:, None])
    _, candidate = _find(candidates, (first[:, None] + rank).reshape(-1))
    ray = jnp.repeat(jnp.arange(num_rays), y.shape[1], total_repeat_length=y.size)
    share = jnp.clip(steps - rank, 0.0, 1.0).reshape(-1)
    place = candidates.start[ray] + (candidate + share - 0.5) * candidates.step
    return _measured(config, bounds, ray, place, width.reshape(-1), (count > 0)[ray])


def fill_occupied(
    config: MarchingConfig,
    candidates: Candidates,
    bounds: SceneBounds,
    y: Float[Array, "rays samples"],
) -> PackedSamples:
    """Makes samples whose intervals meet halfway between them and fill what is occupied.

    Args and returns: those of `place_on_occupied`.
    """
    occupied = (num_samples(candidates) * candidates.step)[:, None]
    middle = 0.5 * (y[:, 1:] + y[:, :-1])
    ends = jnp.concatenate([jnp.zeros_like(occupied), middle, occupied], axis=1)
    return place_on_occupied(
        config, candidates, bounds, y, jnp.maximum(jnp.diff(ends, axis=1), 0.0)
    )


def shortest_step(config: MarchingConfig, bounds: SceneBounds) -> Float[Array, ""]:
    """Finds the shortest step with which every march fits num_candidates."""
    return spaces.longest_march(config.space, bounds) / config.num_candidates


def next_step_scale(
    config: MarchingConfig, scale: Float[Array, ""], needed: Int[Array, ""]
) -> Float[Array, ""]:
    """Chooses how much wider than the shortest step the next march should be.

    The number of samples is inversely proportional to the step, so scale * needed / (fill * budget)
    would just fit; the answer moves halfway there (in the logarithm), between 1 and max_step_scale.
    """
    wanted = scale * needed / (config.target_fill * config.budget)
    wanted = jnp.clip(wanted, 1.0, config.max_step_scale)
    return jnp.clip(jnp.sqrt(scale * wanted), 1.0, config.max_step_scale)


def _hits_in_box(config, grid_config, grid, bounds, rays, step, offset):
    """Candidates by straight lines through the cells: one fused pass over rays x candidates."""
    aabb = bounds.aabb
    inside = intersect_box(rays, aabb, bounds.near, bounds.far)
    start = inside.near + offset * step
    scale = grid_config.resolution / (aabb[1:] - aabb[:1])
    origin = (rays.origins + start[:, None] * rays.directions - aabb[:1]) * scale
    stride = rays.directions * (scale * step)
    k = jnp.arange(config.num_candidates, dtype=jnp.float32)
    top = grid_config.resolution - 1
    cell = [
        jnp.clip(
            (origin[:, axis, None] + k[None, :] * stride[:, axis, None]).astype(jnp.int32), 0, top
        )
        for axis in range(3)
    ]
    index = (cell[0] * grid_config.resolution + cell[1]) * grid_config.resolution + cell[2]
    hit = grid.occupied.at[index].get(mode="promise_in_bounds")
    hit = hit & (start[:, None] + k[None, :] * step < inside.far[:, None])
    return start, hit


def _hits_in_warp(config, grid_config, grid, bounds, rays, step, offset):
    """Candidates by their place in the cube, where rays are bent."""
    space = config.space
    first, last = (
        spaces.coordinate(space, bounds, jnp.asarray(end)) for end in (bounds.near, bounds.far)
    )
    start = first + offset * step
    k = jnp.arange(config.num_candidates, dtype=jnp.float32)
    x = start[:, None] + k[None, :] * step
    t = spaces.distance(space, bounds, x)
    points = rays.origins[:, None, :] + t[..., None] * rays.directions[:, None, :]
    unit = spaces.to_unit(space, bounds, points)
    cell = occupancy.cell_index(grid_config, unit)
    hit = grid.occupied.at[cell].get(mode="promise_in_bounds") & (x < last)
    if space == "forward_facing":
        hit = hit & jnp.all((unit >= 0.0) & (unit <= 1.0), axis=-1)
    return start, hit


def _samples(config, candidates, bounds, number, valid):
    """Finds samples by their number, counted ray after ray; numbers must not fall."""
    ray, candidate = _find(candidates, number)
    place = candidates.start[ray] + candidate * candidates.step
    return _measured(config, bounds, ray, place, candidates.step, valid)


def _find(candidates, number):
    """Ray and candidate of samples by their number."""
    num_rays, num_words = candidates.words.shape
    # the search is a loop on purpose: unrolled, XLA would repeat it inside every operation that
    # reads the samples
    word = jnp.searchsorted(candidates.ends, number, side="right", method="scan")
    word = jnp.minimum(word.astype(jnp.int32), num_rays * num_words - 1)
    bits = candidates.words.reshape(-1)[word]
    rank = number - (candidates.ends[word] - jax.lax.population_count(bits).astype(jnp.int32))
    return word // num_words, word % num_words * 32 + _select_bit(bits, rank)


def _measured(config, bounds, ray, place, width, valid):
    """Samples with their places also as distances."""
    space = config.space
    if space == "bounded":
        length = width
    else:
        low, high = (spaces.distance(space, bounds, place + half * width) for half in (-0.5, 0.5))
        length = high - low
    return PackedSamples(
        ray=ray,
        distance=spaces.distance(space, bounds, place),
        length=jnp.where(valid, length, 0.0),
        place=place,
        width=jnp.where(valid, width, 0.0),
        valid=valid,
    )


def _select_bit(word: UInt32[Array, " n"], rank: Int[Array, " n"]) -> Int[Array, " n"]:
    """Finds the position of the set bit with `rank` set bits below it, by halving the word."""
    position = jnp.zeros_like(rank)
    for width in (16, 8, 4, 2, 1):
        low = (word >> position.astype(jnp.uint32)) & np.uint32((1 << width) - 1)
        below = jax.lax.population_count(low).astype(jnp.int32)
        up = rank >= below
        position = position + jnp.where(up, width, 0)
        rank = rank - jnp.where(up, below, 0)
    return position
