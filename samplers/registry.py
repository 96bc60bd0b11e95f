"""Every sampler by name: what it is for, whether it is biased, what it needs, where it is from.

A sampler added here is driven through the conformance tests at once. The file is long because it
is a table: one entry per sampler, kept in one place to be read at a glance.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax.numpy as jnp

from . import (
    depth_guided,
    epochs,
    error_weighted,
    failure_bins,
    mixed,
    multi_scale,
    prior_weighted,
    ranked_pool,
    soft_mining,
    spatial,
    stratified,
    uniform,
    views,
)
from .base import MAX_ITEMS, Sampler
from .failure_bins_presets import PRESETS
from .setting_types import check_type

Kind = Literal["rays", "motion", "views", "points"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One registered sampler.

    Attributes:
      name: how the command line calls it.
      summary: one line about what it is for.
      kind: what its items are.
      config: its config class.
      make: config -> Sampler.
      is_unbiased: with default settings, mean(weights * loss) is unbiased for the mean over items.
      is_exact: `draw.probs` are exact probabilities or densities, not relative ones.
      needs: names of the data `init` takes after the key.
      source: where the method is from.
      preset: settings that differ from the config's defaults.
    """

    name: str
    summary: str
    kind: Kind
    config: type
    make: Callable[[Any], Sampler]
    is_unbiased: bool
    is_exact: bool
    source: str
    needs: tuple[str, ...] = ()
    preset: Mapping[str, Any] = dataclasses.field(default_factory=dict)


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="uniform",
            summary="every pixel equally likely: the baseline",
            kind="rays",
            config=uniform.UniformConfig,
            make=uniform.make,
            is_unbiased=True,
            is_exact=True,
            source="textbook",
        ),
        Entry(
            name="uniform_epochs",
            summary="every pixel once per epoch, in random order",
            kind="rays",
            config=epochs.EpochsConfig,
            make=epochs.make,
            is_unbiased=True,
            is_exact=True,
            source="Black & Rogaway 2002",
        ),
        Entry(
            name="stratified",
            summary="one pixel from each of n equal parts of the images",
            kind="rays",
            config=stratified.StratifiedConfig,
            make=stratified.make,
            is_unbiased=True,
            is_exact=True,
            source="textbook",
        ),
        Entry(
            name="error_weighted",
            summary="pixels in proportion to their recent loss, with a uniform floor",
            kind="rays",
            config=error_weighted.ErrorWeightedConfig,
            make=error_weighted.make,
            is_unbiased=True,
            is_exact=True,
            source="Schaul et al. 2016; Hesterberg 1995",
        ),
        Entry(
            name="spatial",
            summary="image tiles in proportion to their recent loss",
            kind="rays",
            config=spatial.SpatialConfig,
            make=spatial.make,
            is_unbiased=True,
            is_exact=True,
            source="error maps of instant-ngp and torch-ngp, with exact weights",
        ),
        Entry(
            name="error_map",
            summary="spatial with its preference left in the loss, uniform in a run's second half: "
            "the default of `hardlight nerf`",
            kind="rays",
            config=spatial.SpatialConfig,
            make=spatial.make,
            is_unbiased=False,
            is_exact=True,
            source="error maps of instant-ngp and torch-ngp, with exact probabilities and floor",
            preset={"correction": 0.0, "handback_from": 0.5},
        ),
        Entry(
            name="progressive",
            summary="spatial, from uniform to error-driven over a ramp",
            kind="rays",
            config=spatial.SpatialConfig,
            make=spatial.make,
            is_unbiased=True,
            is_exact=True,
            source="error-driven ray sampling with a gradual transition",
            preset={"warmup_steps": 100, "ramp_steps": 2000},
        ),
        Entry(
            name="multi_scale",
            summary="coarse-to-fine over the levels of one pyramid of tiles",
            kind="rays",
            config=multi_scale.MultiScaleConfig,
            make=multi_scale.make,
            is_unbiased=True,
            is_exact=True,
            source="Morton 1966; multi-scale error maps",
        ),
        Entry(
            name="mixed",
            summary="error-weighted, top-k and uniform with adaptive shares",
            kind="rays",
            config=mixed.MixedConfig,
            make=mixed.make,
            is_unbiased=True,
            is_exact=True,
            source="Douc et al. 2007",
        ),
        Entry(
            name="top_k",
            summary="only the hardest share of the tiles",
            kind="rays",
            config=ranked_pool.RankedPoolConfig,
            make=ranked_pool.make,
            is_unbiased=False,
            is_exact=True,
            source="Shrivastava et al. 2016",
        ),
        Entry(
            name="curriculum",
            summary="easy tiles first, then all",
            kind="rays",
            config=ranked_pool.RankedPoolConfig,
            make=ranked_pool.make,
            is_unbiased=False,
            is_exact=True,
            source="Platanios et al. 2019",
            preset={
                "is_hardest": False,
                "first_fraction": 0.3,
                "last_fraction": 1.0,
                "grow_steps": 2000,
            },
        ),
        Entry(
            name="edges",
            summary="pixels in proportion to the image gradient",
            kind="rays",
            config=prior_weighted.PriorWeightedConfig,
            make=prior_weighted.make,
            is_unbiased=True,
            is_exact=True,
            source="EGRA (Gai et al. 2023)",
            needs=("images",),
        ),
        Entry(
            name="semantic",
            summary="pixels at the boundaries between labels",
            kind="rays",
            config=prior_weighted.PriorWeightedConfig,
            make=prior_weighted.make,
            is_unbiased=True,
            is_exact=True,
            source="semantic priors as a draw with exact weights",
            needs=("labels",),
            preset={"kind": "boundaries"},
        ),
        Entry(
            name="temporal",
            summary="frames x tiles of a video, by loss and change between frames",
            kind="rays",
            config=spatial.SpatialConfig,
            make=spatial.make,
            is_unbiased=True,
            is_exact=True,
            source="DyNeRF (Li et al. 2022)",
            needs=("images",),
            preset={"prior": "change", "prior_fraction": 0.3},
        ),
        Entry(
            name="soft_mining",
            summary="pixels that walk towards high loss (Langevin), tied step and noise",
            kind="rays",
            config=soft_mining.SoftMiningConfig,
            make=soft_mining.make,
            is_unbiased=False,
            is_exact=False,
            source="Kheradmand et al. 2024",
            needs=("images",),
        ),
        Entry(
            name="soft_mining_released",
            summary="the same as the published program does it",
            kind="rays",
            config=soft_mining.SoftMiningConfig,
            make=soft_mining.make,
            is_unbiased=False,
            is_exact=False,
            source="Kheradmand et al. 2024",
            needs=("images",),
            preset={"is_released": True},
        ),
        Entry(
            name="failure_bins",
            summary="motion starts by failures over exposure, with look-back, floor and cap",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="BeyondMimic, SONIC, TextOp; Oudeyer et al. 2007",
        ),
        Entry(
            name="beyondmimic_released",
            summary="failure counts with an additive prior",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="Liao et al. 2025, program",
            preset=PRESETS["beyondmimic_released"],
        ),
        Entry(
            name="beyondmimic_paper",
            summary="failures over episodes by start, look-back of three bins, true floor",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="Liao et al. 2025, paper",
            preset=PRESETS["beyondmimic_paper"],
        ),
        Entry(
            name="motion_bins_proposal",
            summary="smoothed ratio of totals, look-back of five bins",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="rule for 1-second motion bins",
            preset=PRESETS["motion_bins_proposal"],
        ),
        Entry(
            name="sonic",
            summary="failure rates without forgetting, clipped, long look-back",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="Luo et al. 2025",
            preset=PRESETS["sonic"],
        ),
        Entry(
            name="textop",
            summary="failure rates per clip to a power",
            kind="motion",
            config=failure_bins.FailureBinsConfig,
            make=failure_bins.make,
            is_unbiased=False,
            is_exact=True,
            source="TextOp 2025",
            preset=PRESETS["textop"],
        ),
        Entry(
            name="views",
            summary="cameras by loss and staleness",
            kind="views",
            config=views.ViewsConfig,
            make=views.make,
            is_unbiased=True,
            is_exact=True,
            source="Jiang et al. 2021",
        ),
        Entry(
            name="views_rounds",
            summary="every camera once per round, weighted order; unbiased over whole rounds",
            kind="views",
            config=views.ViewsConfig,
            make=views.make,
            is_unbiased=False,
            is_exact=True,
            source="textbook",
            preset={"method": "rounds"},
        ),
        Entry(
            name="views_farthest",
            summary="cameras in farthest-point order, once per round",
            kind="views",
            config=views.ViewsConfig,
            make=views.make,
            is_unbiased=False,
            is_exact=True,
            source="Eldar et al. 1997",
            needs=("centres",),
            preset={"method": "farthest"},
        ),
        Entry(
            name="depth_guided",
            summary="points around a depth prior, mixed with strata",
            kind="points",
            config=depth_guided.DepthGuidedConfig,
            make=depth_guided.make,
            is_unbiased=True,
            is_exact=True,
            source="DONeRF (Neff et al. 2021)",
            needs=("depth", "sigma"),
        ),
    )
}

_IMAGE_FIELDS = ("num_views", "rows", "cols", "num_items", "batch_size")


def names(kind: Kind | None = None) -> tuple[str, ...]:
    """Lists the registered names, of one kind if given."""
    return tuple(name for name, entry in ENTRIES.items() if kind in (None, entry.kind))


def default_options(name: str) -> dict[str, Any]:
    """Gives the settings of a ray sampler a user may choose, with their defaults."""
    entry = _entry(name)
    return {
        field.name: entry.preset.get(field.name, field.default)
        for field in dataclasses.fields(entry.config)
        if field.name not in _IMAGE_FIELDS
    }


def make_sampler(name: str, settings: Mapping[str, object]) -> Sampler:
    """Makes any registered sampler from the settings of its config, on top of its preset.

    Raises:
      ValueError: for an unknown name or setting, and for settings that are missing or impossible.

    Examples:
      >>> make_sampler("views", {"num_views": 8, "batch_size": 2}).config.method
      'independent'
    """
    entry = _entry(name)
    fields = {field.name: field for field in dataclasses.fields(entry.config)}
    unknown = sorted(set(settings) - set(fields))
    if unknown:
        raise ValueError(
            f"{name} has no setting {', '.join(unknown)}; its settings: {', '.join(fields)}"
        )
    hints = typing.get_type_hints(entry.config)
    for key, value in settings.items():
        check_type(f"{name}: {key}", value, hints[key])
    merged = {**entry.preset, **settings}
    missing = [
        key
        for key, field in fields.items()
        if field.default is dataclasses.MISSING and key not in merged
    ]
    if missing:
        raise ValueError(f"{name} needs {', '.join(missing)}")
    return entry.make(entry.config(**merged))


def make_ray_sampler(
    name: str,
    *,
    num_views: int,
    rows: int,
    cols: int,
    batch_size: int,
    options: Mapping[str, object] | None = None,
) -> Sampler:
    """Makes a ray sampler for a set of equally large images.

    Args:
      name: a registered name of kind "rays".
      options: settings that differ from the defaults, by field name of the config.
    Raises:
      ValueError: for an unknown name or option, listing the known ones; for impossible
        settings; for sets of 2^31 pixels or more where single pixels are indexed; from `init`, for
        a mask of images of another shape.

    Examples:
      >>> make_ray_sampler("uniform", num_views=2, rows=4, cols=4, batch_size=8).config
      UniformConfig(num_items=32, batch_size=8)
    """
    entry = _entry(name)
    if entry.kind != "rays":
        raise ValueError(f"{name} samples {entry.kind}, not rays; ray samplers: {names('rays')}")
    if min(num_views, rows, cols) < 1:
        raise ValueError(f"needs at least one pixel, got {num_views} x {rows} x {cols}")
    num_items = num_views * rows * cols
    fields = {field.name: field for field in dataclasses.fields(entry.config)}
    if "num_items" in fields and num_items > MAX_ITEMS:
        raise ValueError(f"needs fewer than 2^31 pixels, got {num_views} x {rows} x {cols}")
    given = dict(options or {})
    unknown = sorted(set(given) - (set(fields) - set(_IMAGE_FIELDS)))
    if unknown:
        known = ", ".join(f"{key}={value!r}" for key, value in default_options(name).items())
        raise ValueError(
            f"{name} has no option {', '.join(unknown)}; its options: {known or 'none'}"
        )
    known_sizes = {
        "num_views": num_views,
        "rows": rows,
        "cols": cols,
        "num_items": num_items,
        "batch_size": batch_size,
    }
    sizes = {key: value for key, value in known_sizes.items() if key in fields}
    sampler = make_sampler(name, {**given, **sizes})

    def init(key: Any, *data: Any, mask: Any = None) -> Any:
        if mask is not None and jnp.shape(mask) not in ((num_views, rows, cols), (num_items,)):
            raise ValueError(
                f"the mask must have the shape {(num_views, rows, cols)} or be flat, "
                f"got {jnp.shape(mask)}"
            )
        return sampler.init(key, *data, mask=mask)

    return dataclasses.replace(sampler, init=init)


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"no sampler {name!r}; samplers: {', '.join(ENTRIES)}")
    return ENTRIES[name]
