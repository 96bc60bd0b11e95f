"""An own PyTorch training loop with rays drawn where the error is high.

Batches are JAX arrays; PyTorch reads them without a copy through DLPack. The model is a stand-in
for any renderer: a small network from a ray to its colour. Needs PyTorch.
Run: python examples/error_weighted_torch.py
"""

import torch

from nerf.ray_batches import RayBatches
from scenes.loading import load_scene


def main(num_steps=400):
    torch.manual_seed(0)
    scene = load_scene("synthetic:spheres", size=64)
    batches = RayBatches(scene.train, sampler="error_weighted", rays_per_batch=2048)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 3),
        torch.nn.Sigmoid(),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _, batch in zip(range(num_steps), batches, strict=False):
        origins, directions, colors, weights = (
            torch.from_dlpack(array)
            for array in (batch.origins, batch.directions, batch.colors, batch.weights)
        )
        color = model(torch.cat([origins, directions], dim=-1))
        error = (color - colors).square().mean(dim=-1)
        loss = (weights * error).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batches.update_error_map(error)
        losses.append(loss.item())
    chances = batches.error_map()
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
    print(
        f"pixels are drawn {chances.min():.2f} to {chances.max():.2f} times as often as on average"
    )
    return losses


if __name__ == "__main__":
    main()
