"""Weighted index samplers under one interface: ours, and what a user would otherwise reach for.

Each class holds N weights: the first half weighs 2, the second half 1, so that a few draws show
whether both halves and all residues of the index are reached as they should be. `draw(seed)`
returns a batch of indices, `update(index, values)` writes new weights; both wait for their result.
"""

import functools
from typing import ClassVar, Literal

import numpy as np


class Ours:
    """The weight pyramid."""

    leaf_format = "float32"
    method: Literal["multinomial", "stratified"] = "multinomial"

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        from samplers import pyramid, pyramid_write

        self._wait = jax.block_until_ready
        self._key = jax.random.key
        build = functools.partial(pyramid.build, leaf_format=self.leaf_format)
        self.state = jax.jit(
            lambda: build(jnp.where(jnp.arange(num_items) < num_items // 2, 2, 1))
        )()
        draw = functools.partial(pyramid.draw, method=self.method)
        self._draw = jax.jit(lambda key, state: draw(key, state, batch)[0])
        self._update = jax.jit(pyramid_write.write, donate_argnums=0)
        self._total = jax.jit(pyramid.total)
        self._leaves = jax.jit(lambda state: pyramid.leaf_weights(state, num_items))

    def draw(self, seed: int):
        return self._wait(self._draw(self._key(seed), self.state))

    def update(self, index, values) -> None:
        self.state = self._wait(self._update(self.state, index, values))

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


class JaxChoice:
    """`jax.random.choice(p=...)`: a cumulative sum at every call."""

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        self._wait, self._key = jax.block_until_ready, jax.random.key
        self.weights = jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        self._draw = jax.jit(lambda key, w: jax.random.choice(key, num_items, (batch,), p=w))
        self._update = jax.jit(lambda w, i, v: w.at[i].set(v), donate_argnums=0)

    def draw(self, seed: int):
        return self._wait(self._draw(self._key(seed), self.weights))

    def update(self, index, values) -> None:
        self.weights = self._wait(self._update(self.weights, index, values))


class JaxKeptSum:
    """A cumulative sum kept between draws and computed again at every update."""

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp

        self._wait, self._key = jax.block_until_ready, jax.random.key
        self.weights = jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        self.edges = jnp.cumsum(self.weights)

        def draw(key, edges):
            target = jax.random.uniform(key, (batch,)) * edges[-1]
            return jnp.minimum(jnp.searchsorted(edges, target, side="right"), num_items - 1)

        def update(weights, edges, index, values):
            weights = weights.at[index].set(values)
            return weights, jnp.cumsum(weights)

        self._draw, self._update = jax.jit(draw), jax.jit(update, donate_argnums=(0, 1))

    def draw(self, seed: int):
        return self._wait(self._draw(self._key(seed), self.edges))

    def update(self, index, values) -> None:
        state = self._update(self.weights, self.edges, index, values)
        self.weights, self.edges = self._wait(state)


class TorchMultinomial:
    """`torch.multinomial(replacement=True)`, which takes at most 2^24 weights."""

    largest: ClassVar[int] = 2**24

    def __init__(self, num_items: int, batch: int):
        import torch

        self._torch, self._batch = torch, batch
        self.weights = torch.ones(num_items)
        self.weights[: num_items // 2] = 2.0

    def draw(self, seed: int):
        generator = self._torch.Generator().manual_seed(seed)
        return self._torch.multinomial(
            self.weights, self._batch, replacement=True, generator=generator
        ).numpy()

    def update(self, index, values) -> None:
        index, values = (self._torch.from_numpy(np.array(part)) for part in (index, values))
        self.weights[index.long()] = values


class NumpyChoice:
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


class Flashbax:
    """flashbax's float32 sum tree: stratified draw, updates one by one (its faster way on CPU)."""

    largest: ClassVar[int] = 2**26
    set_batch = "set_batch_scan"

    def __init__(self, num_items: int, batch: int):
        import jax
        import jax.numpy as jnp
        from flashbax.buffers import sum_tree

        self._wait, self._key = jax.block_until_ready, jax.random.key
        levels, level = [], jnp.where(jnp.arange(num_items) < num_items // 2, 2.0, 1.0)
        while level.size > 1:
            levels.append(level)
            level = level.reshape(-1, 2).sum(1)
        nodes = jnp.concatenate([level, *levels[::-1]])
        self.state = sum_tree.init(num_items).replace(nodes=nodes)
        self._draw = jax.jit(lambda key, state: sum_tree.stratified_sample(state, batch, key))
        self._update = jax.jit(getattr(sum_tree, self.set_batch), donate_argnums=0)
        self._first_leaf = num_items - 1

    def draw(self, seed: int):
        return self._wait(self._draw(self._key(seed), self.state))

    def update(self, index, values) -> None:
        self.state = self._wait(self._update(self.state, index, values))

    def drift(self) -> float:
        nodes = np.asarray(self.state.nodes, np.float64)
        return abs(nodes[0] / nodes[self._first_leaf :].sum() - 1.0)


class FlashbaxBincount(Flashbax):
    """flashbax's other update, its default on GPU and TPU, which adds differences."""

    set_batch = "set_batch_bincount"


class CompiledTree:
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
    "jax.random.choice": JaxChoice,
    "cumulative sum kept": JaxKeptSum,
    "torch.multinomial": TorchMultinomial,
    "numpy Generator.choice": NumpyChoice,
    "flashbax": Flashbax,
    "flashbax bincount": FlashbaxBincount,
    "compiled sum tree": CompiledTree,
}
