"""What a browser shows: the viewers and the report, in a headless Chromium where there is one."""

import base64
import contextlib
import io
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.voxels_setup import lighting
from voxels.formats.map_json import save_map
from voxels.palette import terrain_palette
from voxels.procedural import WorldConfig, make_world

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--disable-sync",
    "--disable-component-update",
    "--disable-background-networking",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-allow-origins=*",
)
PATIENCE = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.contextmanager
def running(command):
    """A program's standard output, while it runs."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield process.stdout
        finally:
            process.terminate()


def wait_until_seen(address, folder, is_right, *, height=600):
    """Opens a page and looks at its pixels, [rows, cols, 3], until they are right."""
    connect = pytest.importorskip("websockets.sync.client").connect
    port = free_port()
    options = [
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size=800,{height}",
        f"--remote-debugging-port={port}",
    ]
    end = time.monotonic() + PATIENCE
    with running([str(CHROMIUM), *FLAGS, *options, address]):
        while True:
            time.sleep(1.0)
            assert time.monotonic() < end, f"not seen in {PATIENCE} s: {address}"
            with contextlib.suppress(OSError):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as pages:
                    found = [page for page in json.load(pages) if page["type"] == "page"]
                if found:
                    break
        with connect(found[0]["webSocketDebuggerUrl"], max_size=2**26) as tab:
            while True:
                tab.send(json.dumps({"id": 1, "method": "Page.captureScreenshot"}))
                answer = json.loads(tab.recv(timeout=PATIENCE))
                image = Image.open(io.BytesIO(base64.b64decode(answer["result"]["data"])))
                image.save(folder / "screen.png")
                if is_right(np.asarray(image.convert("RGB"))):
                    return
                assert time.monotonic() < end, f"wrong after {PATIENCE} s: {folder / 'screen.png'}"
                time.sleep(1.0)


@contextlib.contextmanager
def served(path, *flags):
    """Address of `hardlight view PATH`, while it runs."""
    arguments = ["view", str(path), "--port", str(free_port()), *flags]
    with running([sys.executable, "-u", "-m", "training.cli", *arguments]) as lines:
        line = next(line for line in iter(lines.readline, "") if "Ctrl-C ends" in line)
        yield next(word for word in line.split() if word.startswith("http"))


def test_a_block_world_is_seen_in_its_colours(tmp_path):
    pytest.importorskip("viser")
    sky = np.round(255 * np.asarray(lighting(terrain_palette())[1])).astype(int)

    def is_right(picture):
        red, green, blue = (picture[..., k].astype(int) for k in range(3))
        is_sky = np.all(np.abs(picture.astype(int) - sky) <= 2, axis=-1)
        # the browser's tone mapping changes the colours of meshes; grass stays green
        is_grass = (green > red + 30) & (green > blue + 30)
        return is_sky.mean() > 0.2 and is_grass.mean() > 0.05

    save_map(tmp_path / "map.json", make_world(WorldConfig(), 0))
    with served(tmp_path / "map.json") as address:
        wait_until_seen(address, tmp_path, is_right)


def test_a_run_is_drawn_behind_the_controls(finished, tmp_path):
    pytest.importorskip("viser")

    def is_right(picture):
        middle = picture[200:500, 300:500]
        return middle.min() < 245 and middle.std() > 0.5  # a haze, where nothing drawn is white

    with served(finished[0]) as address:
        wait_until_seen(address, tmp_path, is_right)


def page_seen(folder, run, *flags):
    """What stands between the controls of the viewer, once it rests."""
    pages = []

    def is_at_rest(picture):
        pages.append(picture[190:440, 60:640].astype(int))
        is_drawn = pages[-1].min() < 245 and pages[-1].std() > 0.5
        return is_drawn and len(pages) > 3 and np.abs(pages[-1] - pages[-3]).mean() < 0.1

    with served(run, *flags) as address:
        wait_until_seen(address, folder, is_at_rest)
    return pages[-1]


def test_depth_and_cameras_are_shown_as_asked(finished, tmp_path):
    pytest.importorskip("viser")
    opacity = page_seen(tmp_path, finished[0], "--picture", "opacity")
    assert np.mean(np.ptp(opacity, axis=-1) < 12) > 0.97  # shades of grey
    depth = page_seen(tmp_path, finished[0], "--picture", "depth")
    assert np.mean(np.ptp(depth, axis=-1) < 12) < 0.8
    for cameras in ("photographs", "errors", "draws"):  # pictures stand in front of it
        page = page_seen(tmp_path, finished[0], "--picture", "opacity", "--cameras", cameras)
        assert np.mean(np.abs(page - opacity).max(-1) > 20) > 0.02


def test_a_report_shows_its_pictures(finished, tmp_path):
    def is_right(picture):
        saturation = picture.max(-1).astype(int) - picture.min(-1)
        return np.mean(saturation > 40) > 0.005  # curves and colours, not only text

    address = Path(finished[0], "report.html").as_uri()
    wait_until_seen(address, tmp_path, is_right, height=3000)
