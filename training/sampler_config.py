"""The sampler of a run, by name and settings, as every job's config.json holds it."""

import dataclasses
from collections.abc import Mapping

from . import config_json

OptionValue = bool | int | float | str | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerOption:
    """One setting of the sampler that differs from its default."""

    name: str
    value: OptionValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """What to train on next: rays, cameras or motion starts; checked by the sampler registry."""

    name: str = "uniform"
    options: tuple[SamplerOption, ...] = ()
    label: str = ""
    """What a comparison calls it; empty: its name."""

    @property
    def title(self) -> str:
        """What it is called in folders and tables."""
        return self.label or self.name

    def as_dict(self) -> dict[str, OptionValue]:
        """Settings by name."""
        return {option.name: option.value for option in self.options}


def typed(name: str, options: Mapping[str, str], *, label: str = "") -> SamplerConfig:
    """Makes the config of a sampler from its options as typed by a user."""
    return SamplerConfig(
        name=name,
        label=label,
        options=tuple(
            SamplerOption(name=option, value=config_json.parse_value(text))
            for option, text in options.items()
        ),
    )
