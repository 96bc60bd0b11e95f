"""The one shape of a guide: pictures in, dL / d picture out, and no derivative through it.

A guide is a function and the arrays it reads. It returns the cotangent of the images, so it may
be a formula, a JAX network or a frozen network in another framework; the train step pulls the
cotangent back through the renderer. Differentiating the guide itself is always a mistake (it
would bring in the Jacobian of the denoiser, which score distillation leaves out), so it raises.
Images are in [0, 1], display-referred; L is a mean over the pixels of a view.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key


class Pull(NamedTuple):
    """Where a guide wants images to go.

    Attributes:
      gradient: dL / d image of each view, for minimising L.
      value: a number per view that says how far the image is off, for samplers and logs. For
        score distillation this is a norm of the gradient and need not fall.
      metrics: scalars to log.
    """

    gradient: Float[Array, "views rows cols 3"]
    value: Float[Array, " views"]
    metrics: dict[str, Float[Array, ""]]


class Query(NamedTuple):
    """What a guide is asked.

    Attributes:
      images: rendered views.
      views: which cameras they were rendered from.
      progress: how much of the run has passed, 0 to 1.
    """

    images: Float[Array, "views rows cols 3"]
    views: Int[Array, " views"]
    progress: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Guidance:
    """A guide with the arrays it reads.

    Attributes:
      name: for logs.
      data: arrays handed to `pull` as an argument, never captured.
      pull: (data, key, query) -> Pull. Differentiating it raises TypeError, because what was
        given is called by `ask`.
      is_traceable: False where `pull` is opaque to JAX (another framework) and must run outside
        jit, between the render and the update.
    """

    name: str
    data: Any
    pull: Callable[[Any, Key[Array, ""], Query], Pull]
    is_traceable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "pull", functools.partial(ask, self.pull))


def ask(
    pull: Callable[[Any, Key[Array, ""], Query], Pull],
    data: Any,
    key: Key[Array, ""],
    query: Query,
) -> Pull:
    """Calls a function as a guide, so that differentiating the answer raises TypeError."""

    @jax.custom_jvp
    def guarded(data: Any, key: Key[Array, ""], query: Query) -> Pull:
        return pull(data, key, query)

    @guarded.defjvp
    def _refuse(primals: Any, tangents: Any) -> Any:
        raise TypeError(
            "guidance cannot be differentiated: use its answer as the cotangent of the images"
        )

    return guarded(data, key, query)
