"""A peer in PyTorch: the same radiance field, trained the way PyTorch is used on a CPU.

It takes every size and setting from our `NerfConfig`: hash grid, networks, spherical harmonics,
occupancy grid, rays per step, loss, background, Adam and its schedule. What PyTorch does better it
does its own way: dynamic shapes, so empty space is skipped with a boolean mask and no ray is ever
left out; marches are only as long as the step demands; Adam is the fused kernel. The step's length
follows the same rule as ours, so both evaluate the same number of samples per ray.

`Encoding` offers two ways to read tables. `index_select`, whose gradient is an `index_add`, is the
faster on a CPU and the default; `benchmarks/hash_encoding.py` times both.
"""

import itertools
import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nerf import hash_encoding
from nerf.fields import FieldConfig
from nerf.hash_encoding import HashEncodingConfig
from nerf.optimizer import learning_rate
from nerf.train_step import NerfConfig
from scenes.posed_images import PosedImages

Lookup = Literal["embedding", "index_select"]

_PRIMES = (1, 2654435761, 805459861)


class Rays(NamedTuple):
    """Half lines with unit directions, [rays, 3] each."""

    origins: Tensor
    directions: Tensor


class Encoding(nn.Module):
    """Multiresolution hash encoding; all levels at once, in one table."""

    def __init__(self, config: HashEncodingConfig, lookup: Lookup = "index_select"):
        super().__init__()
        levels = hash_encoding.levels(config)
        self.lookup: Lookup = lookup
        self.num_dense = sum(level.is_dense for level in levels)
        self.mask = 2**config.log2_table_size - 1
        first = np.cumsum([0] + [level.num_entries for level in levels])
        sides = [level.resolution + 1 for level in levels]
        factors = [
            (1, side, side * side) if level.is_dense else _PRIMES
            for level, side in zip(levels, sides, strict=True)
        ]
        wrapped = np.array(factors, np.uint32).view(np.int32)
        self.register_buffer("resolution", torch.tensor([level.resolution for level in levels]))
        self.register_buffer("first", torch.tensor(first[:-1], dtype=torch.int32))
        self.register_buffer("factors", torch.tensor(wrapped))
        self.table = nn.Parameter(
            torch.empty(int(first[-1]), config.num_features).uniform_(-1e-4, 1e-4)
        )

    def forward(self, unit: Tensor) -> Tensor:
        """Encodes points [n, 3] of the unit cube as [n, levels * features]."""
        index, weight = self._corners(unit.clamp(0.0, 1.0))
        if self.lookup == "embedding":
            read = functional.embedding(index, self.table)
        else:
            read = self.table.index_select(0, index.view(-1))
            read = read.view(*index.shape, self.table.shape[1])
        mixed = (read * weight[..., None]).sum(0)
        return torch.cat(mixed.unbind(0), -1)  # a transpose would make its gradient strided, slow

    @torch.no_grad()
    def _corners(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Table rows and trilinear weights, both [8, levels, n]: the long axis last, so that
        every operation runs over contiguous memory."""
        resolution = self.resolution[:, None]
        scaled = unit.t()[:, None, :] * resolution
        cell = torch.minimum(scaled.floor(), resolution - 1.0)
        upper = scaled - cell
        weight = _outer(torch.stack([1.0 - upper, upper], 1), torch.mul)
        cell = cell.int()
        # int32 wraps around, which the mask makes equal to the hash in uint32
        parts = torch.stack([cell, cell + 1], 1) * self.factors.t()[:, None, :, None]
        dense = _outer(parts[:, :, : self.num_dense], torch.add)
        hashed = _outer(parts[:, :, self.num_dense :], torch.bitwise_xor) & self.mask
        # index_add has a fast path for int64 only
        return (torch.cat([dense, hashed], 1) + self.first[:, None]).long(), weight


class Field(nn.Module):
    """Density and colour of points of the unit cube."""

    def __init__(self, config: FieldConfig, lookup: Lookup = "index_select"):
        super().__init__()
        self.bias = config.density_bias
        self.encoding = Encoding(config.encoding, lookup)
        geometry, directions = config.num_geometry_features, config.direction_degree**2
        self.density_network = _network(
            config.encoding.num_outputs, config.hidden_width, config.density_layers, 1 + geometry
        )
        self.color_network = _network(
            geometry + directions, config.hidden_width, config.color_layers, 3
        )

    def density(self, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Density [n] and geometry features."""
        output = self.density_network(self.encoding(unit))
        return (output[:, 0] + self.bias).clamp(-15.0, 15.0).exp(), output[:, 1:]

    def forward(self, unit: Tensor, harmonics: Tensor) -> tuple[Tensor, Tensor]:
        """Density [n] and colour [n, 3]."""
        density, geometry = self.density(unit)
        return density, self.color_network(torch.cat([geometry, harmonics], -1)).sigmoid()


class Trainer:
    """The field, its occupancy grid, its optimiser and the images it learns from."""

    def __init__(
        self,
        config: NerfConfig,
        images: PosedImages,
        *,
        seed: int = 0,
        lookup: Lookup = "index_select",
    ):
        torch.manual_seed(seed)
        self.config, self.count, self.samples = config, 0, 0
        self.pixels = torch.from_numpy(images.images)
        cameras = images.cameras
        self.poses, self.focal, self.principal = (
            torch.from_numpy(np.array(field, np.float32)) for field in cameras[:3]
        )
        self.box = torch.from_numpy(np.array(images.aabb, np.float32))
        self.near, self.far = images.near, images.far
        self.shortest = float((self.box[1] - self.box[0]).norm()) / config.marching.num_candidates
        self.scale = config.marching.max_step_scale
        self.field = Field(config.field, lookup)
        self.cells = torch.full((config.occupancy.num_cells,), -1.0)
        self.occupied = torch.ones_like(self.cells, dtype=torch.bool)
        self.order, self.cursor = torch.randperm(self.cells.shape[0]), 0
        settings = config.optimizer
        networks = [*self.field.density_network.parameters()]
        networks += [*self.field.color_network.parameters()]
        self.optimizer = torch.optim.Adam(
            [
                {"params": networks, "weight_decay": settings.network_weight_decay},
                {"params": self.field.encoding.parameters()},
            ],
            betas=(0.9, settings.beta2),
            eps=settings.epsilon,
            fused=True,
        )
        steps = np.arange(config.num_steps + 1)
        self.rates = np.asarray(learning_rate(config.optimizer, config.num_steps)(steps)).tolist()

    def step(self) -> float:
        """Does one step; returns its loss."""
        config = self.config
        rays, stored = self._draw(config.rays_per_step)
        behind = torch.rand(config.rays_per_step, 3)
        alpha = stored[:, 3:]
        target = stored[:, :3] * alpha + behind * (1.0 - alpha)
        step = self.shortest * self.scale
        color, needed = self._render(rays, behind, step, torch.rand(config.rays_per_step))
        loss = functional.smooth_l1_loss(color, target, beta=0.1)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rates[self.count]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.count += 1
        self.samples += needed
        marching = config.marching
        wanted = self.scale * needed / (marching.target_fill * marching.budget)
        wanted = min(max(wanted, 1.0), marching.max_step_scale)
        self.scale = math.sqrt(self.scale * wanted)
        if self.count % config.occupancy_every == 0:
            self._update_grid()
        return loss.item()

    @torch.no_grad()
    def render(self, rays: Rays, background: Tensor, *, chunk: int = 4096) -> Tensor:
        """Colours [rays, 3] over one background colour."""
        pieces = [
            self._render(
                Rays(origins, directions),
                background.expand_as(origins),
                self.shortest,
                torch.full(origins.shape[:1], 0.5),
            )[0]
            for origins, directions in zip(*(part.split(chunk) for part in rays), strict=True)
        ]
        return torch.cat(pieces).clamp(0.0, 1.0)

    def _draw(self, count: int) -> tuple[Rays, Tensor]:
        views, rows, cols, _ = self.pixels.shape
        index = torch.randint(views * rows * cols, (count,))
        view, pixel = index // (rows * cols), index % (rows * cols)
        row, col = pixel // cols, pixel % cols
        stored = self.pixels.view(-1, 4)[index].float() / 255.0
        xy = torch.stack([col, row], -1) + 0.5
        local = (xy - self.principal[view]) / self.focal[view]
        local = torch.stack([local[:, 0], -local[:, 1], -torch.ones(count)], -1)
        pose = self.poses[view]
        directions = (pose[:, :3, :3] * functional.normalize(local, dim=-1)[:, None]).sum(-1)
        return Rays(pose[:, :3, 3], directions), stored

    def _render(self, rays: Rays, behind: Tensor, step: float, offset: Tensor):
        """Colours over the background, and the number of samples taken."""
        ray, distance = self._march(rays, step, offset)
        origins, directions = rays.origins[ray], rays.directions[ray]
        unit = self._to_unit(origins + distance[:, None] * directions)
        harmonics = _spherical_harmonics(rays.directions)[ray]
        density, color = self.field(unit, harmonics)
        tau = density * step
        # float64, because the running sum passes through all rays
        through = tau.double().cumsum(0)
        before = through - tau
        starts = torch.bincount(ray, minlength=len(behind)).cumsum(0)
        base = torch.cat([through.new_zeros(1), through])[torch.cat([starts.new_zeros(1), starts])]
        weight = torch.exp(base[ray] - before).float() * -torch.expm1(-tau)
        values = torch.cat([color, torch.ones_like(tau)[:, None]], -1) * weight[:, None]
        sums = torch.zeros(len(behind), 4).index_add(0, ray, values)
        return sums[:, :3] + (1.0 - sums[:, 3:]) * behind, ray.shape[0]

    @torch.no_grad()
    def _march(self, rays: Rays, step: float, offset: Tensor) -> tuple[Tensor, Tensor]:
        """Ray number and distance of every sample in an occupied cell."""
        tiny = torch.where(rays.directions.abs() < 1e-10, 1e-10, rays.directions)
        first, second = ((corner - rays.origins) / tiny for corner in self.box)
        enter = torch.minimum(first, second).amax(-1).clamp(self.near, self.far)
        leave = torch.minimum(torch.maximum(first, second).amin(-1), torch.tensor(self.far))
        start = enter + offset * step
        longest = max(1, math.ceil(float((leave - start).max()) / step))
        distance = start[:, None] + step * torch.arange(longest)
        resolution, index = self.config.occupancy.resolution, 0
        origins, size = rays.origins - self.box[0], self.box[1] - self.box[0]
        for axis in range(3):
            place = origins[:, axis, None] + distance * rays.directions[:, axis, None]
            cell = (place * (resolution / size[axis])).int().clamp_(0, resolution - 1)
            index = index * resolution + cell
        hit = self.occupied[index] & (distance < leave[:, None])
        ray, candidate = hit.nonzero(as_tuple=True)
        return ray, distance[ray, candidate]

    def _to_unit(self, points: Tensor) -> Tensor:
        return (points - self.box[0]) / (self.box[1] - self.box[0])

    @torch.no_grad()
    def _update_grid(self) -> None:
        grid = self.config.occupancy
        count = min(grid.cells_per_update, grid.num_cells)
        visited = self.order.roll(-self.cursor)[:count]
        self.cursor = (self.cursor + count) % grid.num_cells
        r = grid.resolution
        corner = torch.stack([visited // (r * r), visited // r % r, visited % r], -1)
        fresh, _ = self.field.density((corner + torch.rand(count, 3)) / r)
        self.cells[visited] = torch.maximum(
            (grid.decay * self.cells[visited]).clamp(min=0.0), fresh
        )
        known = self.cells >= 0.0
        mean = self.cells[known].mean()
        decisive = min(-math.log1p(-grid.threshold) / self.shortest, float(mean))
        self.occupied = ~known | (self.cells >= decisive)


def _network(num_inputs: int, width: int, num_hidden: int, num_outputs: int) -> nn.Sequential:
    widths = [num_inputs] + [width] * num_hidden + [num_outputs]
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        linear = nn.Linear(before, after, bias=False)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="linear")
        layers += [linear, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def _outer(pairs: Tensor, combine) -> Tensor:
    """Combines lower and upper x, y, z [3, 2, levels, n] into corners [8, levels, n]."""
    x, y, z = pairs
    xy = combine(x[:, None], y[None])
    return combine(xy[:, :, None], z[None, None]).flatten(0, 2)


def _spherical_harmonics(directions: Tensor) -> Tensor:
    """The 16 real harmonics of degree below 4."""
    x, y, z = directions.unbind(-1)
    a, b = 0.4886025119029199, 1.0925484305920792
    c, d = 0.5900435899266435, 0.4570457994644658
    bands = [torch.full_like(x, 0.28209479177387814), a * y, a * z, a * x]
    bands += [b * x * y, b * y * z, 0.31539156525252005 * (3 * z * z - 1), b * x * z]
    bands += [0.5 * b * (x * x - y * y), c * y * (3 * x * x - y * y), 2.890611442640554 * x * y * z]
    bands += [d * y * (5 * z * z - 1), 0.3731763325901154 * z * (5 * z * z - 3)]
    bands += [d * x * (5 * z * z - 1), 1.445305721320277 * z * (x * x - y * y)]
    return torch.stack([*bands, c * x * (x * x - 3 * y * y)], -1)
