"""The web player of motion runs: the policy beside its reference, with a slider for time."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from motion.formats.mjcf import load_robot

from . import motion_tracks, run_folder
from .motion_config import MotionJob
from .motion_pictures import BLUE, GREY, RED, Figure

_APART = 1.2
"""Metres between the two figures."""


def is_motion(path: str) -> bool:
    """Says whether a folder holds a motion run."""
    config = run_folder.RunFolder(Path(path)).config
    if not config.is_file():
        return False
    return run_folder.job_of(run_folder.read_json(config)) == "motion"


class Player:
    """Serves one finished run to any number of visitors."""

    def __init__(self, path: str, *, host: str, port: int):
        import viser

        folder = run_folder.existing(path)
        job = run_folder.read_job(folder, MotionJob)
        self._tracks = motion_tracks.load(folder)
        self._figure = Figure(load_robot(job.source.robot))
        self._server = viser.ViserServer(host=host, port=port, verbose=False)
        self.port = self._server.get_port()
        self._server.scene.set_up_direction("+z")
        self._server.scene.add_grid("/floor", width=20.0, height=20.0)
        self._lines: dict[str, Any] = {}
        last = len(self._tracks.policy) - 1
        self._slider = self._server.gui.add_slider(
            "frame", min=0, max=last, step=1, initial_value=0
        )
        self._is_playing = self._server.gui.add_checkbox("play", initial_value=True)
        self._slider.on_update(lambda _: self.show(int(self._slider.value)))
        self.show(0)

    def show(self, frame: int) -> None:
        """Shows one moment."""
        tracks = self._tracks
        ink = BLUE if tracks.is_alive[frame] else RED
        self._draw("/policy", tracks.policy[frame], ink, 0.0)
        self._draw("/reference", tracks.reference[frame], GREY, _APART)

    def advance(self) -> None:
        """Goes one frame on, if it is playing."""
        if self._is_playing.value:
            self._slider.value = (int(self._slider.value) + 1) % len(self._tracks.policy)

    def run(self) -> None:
        """Plays until interrupted."""
        while True:
            time.sleep(1.0 / self._tracks.fps)
            self.advance()

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop()

    def _draw(self, name: str, qpos: np.ndarray, ink: tuple[int, int, int], aside: float) -> None:
        points, _ = self._figure.segments(qpos)
        points = points + np.array([0.0, aside, 0.0])
        colours = np.broadcast_to(np.array(ink, np.uint8), points.shape)
        self._lines[name] = self._server.scene.add_line_segments(
            name,
            points=points.astype(np.float32),
            colors=colours,
            line_width=8.0,  # pyright: ignore[reportArgumentType]
        )


def serve(path: str, *, host: str, port: int) -> None:
    """Plays a run until interrupted."""
    player = Player(path, host=host, port=port)
    print(f"open http://{host}:{player.port} in a browser; Ctrl-C ends")
    try:
        player.run()
    finally:
        player.stop()
