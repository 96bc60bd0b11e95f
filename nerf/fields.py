"""The radiance field: density and colour at a point of the unit cube.

A hash encoding feeds a small density network whose first output is the log density and whose other
outputs, with the spherical harmonics of the viewing direction, feed a small colour network (Mueller
et al. 2022, section 5.4).
"""

import dataclasses
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from . import hash_encoding, spherical_harmonics
from .hash_encoding import HashEncodingConfig

_MAX_LOG_DENSITY = 15.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldConfig:
    """Sizes of the field."""

    encoding: HashEncodingConfig = HashEncodingConfig()
    hidden_width: int = 32
    density_layers: int = 1
    """Hidden layers of the density network."""
    color_layers: int = 2
    """Hidden layers of the colour network."""
    num_geometry_features: int = 15
    """Values the density network hands to the colour network."""
    direction_degree: int = 4
    density_bias: float = -1.0
    """Added to the log density, so that a fresh field is thin."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the networks; tables, sums and gradients of the tables stay float32."""

    def __post_init__(self):
        """Refuses empty networks."""
        for name in ("hidden_width", "density_layers", "color_layers", "num_geometry_features"):
            if getattr(self, name) < 1:
                raise ValueError(f"field {name} must be at least 1, got {getattr(self, name)}")
        if not 1 <= self.direction_degree <= spherical_harmonics.MAX_DEGREE:
            raise ValueError(
                f"field direction_degree must be 1 to {spherical_harmonics.MAX_DEGREE}, "
                f"got {self.direction_degree}"
            )


class FieldSample(NamedTuple):
    """The field at n points."""

    density: Float[Array, " n"]
    """Per unit of shrunk length, which `spaces.shrinking` gives; never negative."""
    color: Float[Array, "n 3"]


class RadianceField(nn.Module):
    """Density and colour of points of the unit cube."""

    config: FieldConfig

    def setup(self):
        """Declares tables and layers."""
        config = self.config
        self.tables = self.param(
            "tables", lambda key: hash_encoding.init_tables(config.encoding, key)
        )
        dtype = jnp.dtype(config.precision)

        def network(name, num_hidden, num_outputs):
            widths = [config.hidden_width] * num_hidden + [num_outputs]
            return [
                nn.Dense(
                    width,
                    use_bias=False,
                    dtype=dtype,
                    kernel_init=nn.initializers.lecun_uniform(),
                    name=f"{name}_{index}",
                )
                for index, width in enumerate(widths)
            ]

        self.density_network = network(
            "density", config.density_layers, 1 + config.num_geometry_features
        )
        self.color_network = network("color", config.color_layers, 3)

    def log_density(
        self, unit: Float[Array, "n 3"]
    ) -> tuple[Float[Array, " n"], Float[Array, "n features"]]:
        """Computes the log density and the geometry features."""
        features = hash_encoding.hash_encode(self.config.encoding, self.tables, unit)
        output = _run(self.density_network, features)
        return output[:, 0].astype(jnp.float32) + self.config.density_bias, output[:, 1:]

    def density(self, unit: Float[Array, "n 3"]) -> Float[Array, " n"]:
        """Computes the density alone."""
        return _activate(self.log_density(unit)[0])

    def __call__(
        self,
        unit: Float[Array, "n 3"],
        directions: Float[Array, "n 3"],
        color_bias: Float[Array, "n hidden"] | None = None,
    ) -> FieldSample:
        """Computes density and colour seen along unit directions, see `evaluate`."""
        log_density, geometry = self.log_density(unit)
        harmonics = spherical_harmonics.spherical_harmonics(
            directions, degree=self.config.direction_degree
        )
        inputs = jnp.concatenate([geometry, harmonics.astype(geometry.dtype)], axis=-1)
        color = jax.nn.sigmoid(_run(self.color_network, inputs, color_bias).astype(jnp.float32))
        return FieldSample(density=_activate(log_density), color=color)


def init(config: FieldConfig, key: Key[Array, ""]) -> Any:
    """Draws the parameters of a fresh field."""
    return RadianceField(config).init(key, jnp.zeros((1, 3)), jnp.ones((1, 3)))


def evaluate(
    config: FieldConfig,
    params: Any,
    unit: Float[Array, "n 3"],
    directions: Float[Array, "n 3"],
    color_bias: Float[Array, "n hidden"] | None = None,
) -> FieldSample:
    """Computes density and colour of points of the unit cube seen along unit directions.

    Args:
      color_bias: added to the first layer of the colour network, for what changes from one
        photograph to the next.
    """
    return cast(FieldSample, RadianceField(config).apply(params, unit, directions, color_bias))


def density(config: FieldConfig, params: Any, unit: Float[Array, "n 3"]) -> Float[Array, " n"]:
    """Computes the density of points of the unit cube, for a third of the cost."""
    return cast(Array, RadianceField(config).apply(params, unit, method="density"))


def _run(layers, x, bias=None):
    for index, layer in enumerate(layers[:-1]):
        x = layer(x)
        if index == 0 and bias is not None:
            x = x + bias.astype(x.dtype)
        x = nn.relu(x)
    return layers[-1](x)


def _activate(log_density):
    # beyond exp(15) a sample is opaque at any step, and the gradient stays finite
    return jnp.exp(jnp.clip(log_density, -_MAX_LOG_DENSITY, _MAX_LOG_DENSITY))
