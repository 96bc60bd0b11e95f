"""Every sampler by name: what it is for, whether it is biased, what it needs, where it is from.

A sampler added here is driven through the conformance tests at once.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from . import error_weighted, uniform
from .base import MAX_ITEMS, Sampler

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
            name="error_weighted",
            summary="pixels in proportion to their recent loss, with a uniform floor",
            kind="rays",
            config=error_weighted.ErrorWeightedConfig,
            make=error_weighted.make,
            is_unbiased=True,
            is_exact=True,
            source="Schaul et al. 2016; Hesterberg 1995",
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
        settings; for sets of 2^31 pixels or more.

    >>> make_ray_sampler("uniform", num_views=2, rows=4, cols=4, batch_size=8).config
    UniformConfig(num_items=32, batch_size=8)
    """
    entry = _entry(name)
    if entry.kind != "rays":
        raise ValueError(f"{name} samples {entry.kind}, not rays; ray samplers: {names('rays')}")
    if min(num_views, rows, cols) < 1:
        raise ValueError(f"needs at least one pixel, got {num_views} x {rows} x {cols}")
    num_items = num_views * rows * cols
    if num_items > MAX_ITEMS:
        raise ValueError(f"needs fewer than 2^31 pixels, got {num_views} x {rows} x {cols}")
    given = dict(options or {})
    fields = {field.name: field for field in dataclasses.fields(entry.config)}
    unknown = sorted(set(given) - (set(fields) - set(_IMAGE_FIELDS)))
    if unknown:
        known = default_options(name)
        listed = ", ".join(f"{key}={value!r}" for key, value in known.items()) or "none"
        raise ValueError(f"{name} has no option {', '.join(unknown)}; its options: {listed}")
    known_sizes = {
        "num_views": num_views,
        "rows": rows,
        "cols": cols,
        "num_items": num_items,
        "batch_size": batch_size,
    }
    sizes = {key: value for key, value in known_sizes.items() if key in fields}
    return entry.make(entry.config(**{**entry.preset, **given, **sizes}))


def _entry(name: str) -> Entry:
    if name not in ENTRIES:
        raise ValueError(f"no sampler {name!r}; samplers: {', '.join(ENTRIES)}")
    return ENTRIES[name]
