"""Weighted index samplers under one interface: ours, and what a user would otherwise reach for.

Each class holds N weights: the first half weighs 2, the second half 1, so that a few draws show
whether both halves and all residues of the index are reached as they should be. `draw(seed)`
returns a batch of indices, `update(index, values)` writes new weights there, `step(seed, values)`
does one after the other; all wait for their result. Those in JAX are compiled as a train step would
be: a step is one program, the key is made inside, and the old state is donated.
"""

import functools
from typing import Any, ClassVar, Literal

import numpy as np


class IndexSampler:
    """What is measured."""

    largest: ClassVar[int] = 2**30

    def draw(self, seed: int) -> Any:
        raise NotImplementedError

    def update(self, index: Any, values: Any) -> None:
        raise NotImplementedError

    def step(self, seed: int, values: Any) -> None:
        self.update(self.draw(seed), values)

    def placed(self, values: np.ndarray) -> Any:
        """Puts values where `update` takes them from."""
        return values

    def fetched(self, index: Any) -> np.ndarray:
        """Brings what was drawn to the host."""
        return np.asarray(index)


class InJax(IndexSampler):
    """One made of `draw_fn(key, state) -> index` and `update_fn(state, index, values) -> state`."""

    state: Any

    def compile(self, draw_fn: Any, update_fn: Any) -> None:
        import jax

        def draw(seed, state):
            return draw_fn(jax.random.key(seed), state)

        def step(state, seed, values):
            return update_fn(state, draw(seed, state), values)

        self._wait = jax.block_until_ready
        self._draw = jax.jit(draw)
        self._update = jax.jit(update_fn, donate_argnums=0)
        self._step = jax.jit(step, donate_argnums=0)

    def draw(self, seed: int) -> Any:
        return self._wait(self._draw(seed, self.state))

    def update(self, index: Any, values: Any) -> None:
        self.state = self._wait(self._update(self.state, index, values))

    def step(self, seed: int, values: Any) -> None:
        self.state = self._wait(self._step(self.state, seed, values))

    def placed(self, values: np.ndarray) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(values)


class Ours(InJax):
    """The weight pyramid."""

    fan_out: ClassVar[int | None] = None
    leaf_format = "float32"
    has_maxima = False
    method: Literal["multinomial", "stratified"] = "multinomial"

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        from samplers import pyramid, pyramid_write

        build = functools.partial(
            pyramid.build,
            fan_out=self.fan_out,
            leaf_format=self.leaf_format,
            has_maxima=self.has_maxima,
        )
        self.state = jax.jit(
            lambda: build(jnp.where(jnp.arange(num_items) < num_items // 2, 2, 1))
        )()
        draw = functools.partial(pyramid.draw, method=self.method)
        self.compile(lambda key, state: draw(key, state, batch)[0], pyramid_write.write)
        self._total = jax.jit(pyramid.total)
        self._leaves = jax.jit(lambda state: pyramid.leaf_weights(state, num_items))

    def drift(self) -> float:
        """Relative error of the total."""
        leaves = float(np.asarray(self._leaves(self.state), np.float64).sum())
        return abs(float(self._total(self.state)) / leaves - 1.0)


class OursStratified(Ours):
    """The weight pyramid, its draws spread evenly, which also makes them neighbours in memory."""

    method = "stratified"


class OursCompact(Ours):
    """The weight pyramid with one byte per leaf."""

    leaf_format = "uint8"


class OursWithMaxima(Ours):
    """The weight pyramid that also keeps the largest weight."""

    has_maxima = True


class JaxChoice(InJax):
    """`jax.random.choice(p=...)`: a cumulative sum at every call."""

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        self.state = jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        self.compile(
            lambda key, weights: jax.random.choice(key, num_items, (batch,), p=weights),
            lambda weights, index, values: weights.at[index].set(values),
        )


class JaxKeptSum(InJax):
    """A cumulative sum kept between draws and computed again at every update."""

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        weights = jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        self.state = weights, jnp.cumsum(weights)

        def draw(key, state):
            target = jax.random.uniform(key, (batch,)) * state[1][-1]
            return jnp.minimum(jnp.searchsorted(state[1], target, side="right"), num_items - 1)

        def update(state, index, values):
            weights = state[0].at[index].set(values)
            return weights, jnp.cumsum(weights)

        self.compile(draw, update)


class TorchMultinomial(IndexSampler):
    """`torch.multinomial(replacement=True)`, for at most 2^24 weights; on CUDA where JAX is."""

    largest: ClassVar[int] = 2**24

    def __init__(self, num_items: int, batch: int):
        import jax
        import torch

        self._torch, self._batch = torch, batch
        self._device = "cuda" if jax.default_backend() == "gpu" else "cpu"
        self.weights = torch.ones(num_items, device=self._device)
        self.weights[: num_items // 2] = 2.0

    def draw(self, seed: int):
        generator = self._torch.Generator(self._device).manual_seed(seed)
        index = self._torch.multinomial(
            self.weights, self._batch, replacement=True, generator=generator
        )
        self._wait()
        return index

    def update(self, index, values) -> None:
        self.weights[index] = values
        self._wait()

    def placed(self, values: np.ndarray) -> Any:
        return self._torch.from_numpy(values).to(self._device)

    def fetched(self, index: Any) -> np.ndarray:
        return index.cpu().numpy()

    def _wait(self) -> None:
        if self._device == "cuda":
            self._torch.cuda.synchronize()


class NumpyChoice(IndexSampler):
    """`numpy.random.Generator.choice(p=...)` in float64."""

    largest: ClassVar[int] = 2**26

    def __init__(self, num_items: int, batch: int):
        self._batch = batch
        self.weights = np.ones(num_items)
        self.weights[: num_items // 2] = 2.0

    def draw(self, seed: int):
        p = self.weights / self.weights.sum()
        return np.random.default_rng(seed).choice(p.size, self._batch, p=p)

    def update(self, index, values) -> None:
        self.weights[np.asarray(index)] = np.asarray(values)


class Flashbax(InJax):
    """flashbax's float32 sum tree: stratified draw, updates one by one (its faster way on CPU)."""

    largest: ClassVar[int] = 2**26
    set_batch = "set_batch_scan"

    def __init__(self, num_items: int, batch: int):
        import jax.numpy as jnp
        from flashbax.buffers import sum_tree

        levels, level = [], jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        while level.size > 1:
            levels.append(level)
            level = level.reshape(-1, 2).sum(1)
        nodes = jnp.concatenate([level, *levels[::-1]])
        self.state = sum_tree.init(num_items).replace(nodes=nodes)
        self._first_leaf = num_items - 1
        self.compile(
            lambda key, state: sum_tree.stratified_sample(state, batch, key),
            getattr(sum_tree, self.set_batch),
        )

    def drift(self) -> float:
        nodes = np.asarray(self.state.nodes, np.float64)
        return abs(nodes[0] / nodes[self._first_leaf :].sum() - 1.0)


class FlashbaxBincount(Flashbax):
    """flashbax's other update, its default on GPU and TPU, which adds differences."""

    set_batch = "set_batch_bincount"


class CompiledTree(IndexSampler):
    """A binary sum tree in float64, compiled by numba as a C++ one would be: what torchrl and most
    replay buffers hold."""

    largest: ClassVar[int] = 2**28

    def __init__(self, num_items: int, batch: int):
        import numba

        self._batch, self._size = batch, num_items
        self.nodes = np.empty(2 * num_items)
        self.nodes[num_items:] = 1.0
        self.nodes[num_items : num_items + num_items // 2] = 2.0

        @numba.njit(parallel=True)
        def descend(nodes, targets):
            found = np.empty(targets.size, np.int64)
            for row in numba.prange(targets.size):
                target, node = targets[row] * nodes[1], 1
                while node < num_items:
                    node *= 2
                    if target >= nodes[node] and nodes[node + 1] > 0:
                        target -= nodes[node]
                        node += 1
                found[row] = node - num_items
            return found

        @numba.njit
        def write(nodes, index, values):
            for row in range(index.size):
                node = index[row] + num_items
                nodes[node] = values[row]
                while node > 1:
                    node //= 2
                    nodes[node] = nodes[2 * node] + nodes[2 * node + 1]

        @numba.njit
        def fill(nodes):
            for node in range(num_items - 1, 0, -1):
                nodes[node] = nodes[2 * node] + nodes[2 * node + 1]

        fill(self.nodes)
        self._descend, self._write = descend, write

    def draw(self, seed: int):
        return self._descend(self.nodes, np.random.default_rng(seed).random(self._batch))

    def update(self, index, values) -> None:
        self._write(self.nodes, np.asarray(index), np.asarray(values, np.float64))

    def drift(self) -> float:
        return abs(self.nodes[1] / self.nodes[self._size :].sum() - 1.0)


SAMPLERS = {
    "pyramid": Ours,
    "pyramid, stratified": OursStratified,
    "pyramid, 1 byte": OursCompact,
    "pyramid, maxima": OursWithMaxima,
    "jax.random.choice": JaxChoice,
    "cumulative sum kept": JaxKeptSum,
    "torch.multinomial": TorchMultinomial,
    "numpy Generator.choice": NumpyChoice,
    "flashbax": Flashbax,
    "flashbax bincount": FlashbaxBincount,
    "compiled sum tree": CompiledTree,
}

BLOCKS = {
    f"pyramid, blocks of {fan}": type(f"OursInBlocksOf{fan}", (Ours,), {"fan_out": fan})
    for fan in (4, 8, 16, 32, 64, 128)
}
"""The weight pyramid with other fan-outs, to choose the one of a backend by."""
