"""LPIPS: off unless asked for, and what it lacks is said before anything is trained."""

import dataclasses
import importlib.util
import json

import numpy as np
import pytest

from training import nerf_job, nerf_outputs, perceptual
from training.perceptual import Lpips
from training.run_folder import RunFolder

from .conftest import TINY

_HAS_LPIPS = importlib.util.find_spec("lpips") is not None
needs_lpips = pytest.mark.skipif(not _HAS_LPIPS, reason="needs the extra lpips")


def asking(**outputs):
    return dataclasses.replace(TINY, outputs=dataclasses.replace(TINY.outputs, **outputs))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A classifier nobody trained, saved as torchvision saves its own."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch
        from torchvision.models import vgg16

        torch.manual_seed(0)
        network = vgg16(weights=None)
    path = tmp_path_factory.mktemp("weights") / "vgg.pth"
    kept = {name: value for name, value in network.state_dict().items() if "features" in name}
    torch.save(kept, path)
    return path


def test_a_job_that_does_not_ask_needs_no_package():
    assert nerf_outputs.perceptual_metric(TINY) is None


def test_weights_without_a_network_are_refused():
    with pytest.raises(ValueError, match=r"outputs\.lpips_weights needs outputs\.lpips"):
        nerf_outputs.perceptual_metric(asking(lpips_weights="weights.pth"))


def test_a_missing_package_is_named_with_what_brings_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'pip install "hardlight\[lpips\]"'):
        Lpips("alex")


def test_missing_weights_are_told_before_the_scene_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    job = asking(lpips="alex")
    job = dataclasses.replace(job, scene=dataclasses.replace(job.scene, data="no-such-folder"))
    with pytest.raises(
        FileNotFoundError, match=r"alexnet-owt-7be5be79\.pth.*outputs\.lpips_weights"
    ):
        nerf_job.start(job, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    found = tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth"
    found.parent.mkdir(parents=True)
    found.touch()
    assert perceptual.weights_path("vgg") == found


@needs_lpips
def test_equal_pictures_are_at_distance_zero_and_noise_is_farther_the_more_there_is(weights):
    metric = Lpips("vgg", str(weights))
    rng = np.random.default_rng(0)
    picture = rng.random((32, 24, 3)).astype(np.float32)
    noise = rng.normal(size=picture.shape).astype(np.float32)
    far = [metric(np.clip(picture + s * noise, 0, 1), picture) for s in (0.0, 0.05, 0.3)]
    assert far[0] == 0.0
    assert 0.0 < far[1] < far[2]


@needs_lpips
@pytest.mark.filterwarnings("ignore:The parameter .pretrained. is deprecated")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum")
def test_the_distance_is_the_packages_own(weights):
    import lpips
    import torch

    metric = Lpips("vgg", str(weights))
    rng = np.random.default_rng(1)
    pair = rng.random((2, 32, 24, 3)).astype(np.float32)
    network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    stored = torch.load(weights, weights_only=True)
    with torch.no_grad():
        for part in network.net.children():
            for number, layer in part.named_children():
                for name, value in layer.named_parameters():
                    value.copy_(stored[f"features.{number}.{name}"])
        tensors = torch.from_numpy(pair).permute(0, 3, 1, 2) * 2 - 1
        wanted = float(network(tensors[:1], tensors[1:]))
    assert metric(pair[0], pair[1]) == pytest.approx(wanted, rel=1e-5)
    metric.check_size(16, 16)
    metric(pair[0, :16, :16], pair[1, :16, :16])
    with pytest.raises(ValueError, match="at least 16 x 16 pixels, these have 30 x 15"):
        metric.check_size(15, 30)


@needs_lpips
def test_another_networks_weights_are_refused(weights, tmp_path):
    with pytest.raises(
        ValueError, match=r"not the weights of torchvision's alex: features\.0\.weight"
    ):
        Lpips("alex", str(weights))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a file of weights"):
        Lpips("vgg", str(broken))


@needs_lpips
def test_a_run_gives_the_mean_over_the_held_out_views(shared, weights, tmp_path):
    job = asking(lpips="vgg", lpips_weights=str(weights), num_pictures=0, video_frames=0)
    summary = nerf_job.start(job, out=str(tmp_path / "run"), shared=shared)
    assert summary["final"]["lpips_vgg"] > 0.0
    folder = RunFolder(tmp_path / "run")
    assert "held-out LPIPS (vgg)" in folder.report.read_text()
    assert json.loads(folder.config.read_text())["config"]["outputs"]["lpips"] == "vgg"
