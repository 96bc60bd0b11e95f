"""The web viewer: renders what the visitor's camera sees, coarse while it moves, then sharp."""

import threading
import time
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from scenes.cameras import make_cameras
from scenes.posed_images import PosedImages

from . import camera_paths, loaded_run, pictures
from .loaded_run import LoadedRun
from .nerf_setup import bounds

_MOVING_SHARE = 0.25


class Viewer:
    """Serves one loaded run to any number of visitors; one picture is rendered at a time."""

    def __init__(self, run: LoadedRun, *, host: str, port: int, size: int):
        import viser

        self._run, self._size = run, size
        self._lock = threading.Lock()
        self._server = viser.ViserServer(host=host, port=port, verbose=False)
        self.port = self._server.get_port()
        posed = run.setup.scene.train
        poses = np.asarray(posed.cameras.camera_to_world, np.float64)
        self._server.scene.set_up_direction(tuple(poses[:, :3, 1].mean(axis=0)))
        self._start = camera_paths.orbit(posed, num_frames=1)
        self._target = camera_paths.looked_at(poses)
        self._server.on_client_connect(self._welcome)

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop()

    def draw(
        self,
        pose: Float[np.ndarray, "4 4"],
        *,
        vertical_angle: float,
        aspect: float,
        longest: int,
    ) -> UInt8[np.ndarray, "rows cols 3"]:
        """Renders one picture.

        Args:
          pose: camera to world, OpenGL axes.
          vertical_angle: full angle of view from top to bottom, radians.
          aspect: width over height.
          longest: longer side in pixels.
        """
        rows = max(2, round(longest / max(aspect, 1.0)))
        cols = max(2, round(rows * aspect))
        focal = 0.5 * rows / np.tan(0.5 * vertical_angle)
        cameras = make_cameras(pose[None], np.full(2, focal), np.array([0.5 * cols, 0.5 * rows]))
        with self._lock:
            view = self._run.evaluator.render(
                self._run.snapshot,
                bounds(self._run.setup.scene.train),
                cameras,
                0,
                rows,
                cols,
                self._run.setup.background,
            )
        return pictures.to_uint8(view.color)

    def _welcome(self, client: Any) -> None:
        posed: PosedImages = self._run.setup.scene.train
        pose = np.asarray(self._start.camera_to_world[0], np.float64)
        client.camera.position = tuple(pose[:3, 3])
        client.camera.look_at = tuple(self._target)
        client.camera.fov = float(
            2 * np.arctan(0.5 * posed.rows / float(posed.cameras.focal[0, 1]))
        )
        moved = threading.Event()
        moved.set()
        client.camera.on_update(lambda _: moved.set())
        threading.Thread(target=self._follow, args=(client, moved), daemon=True).start()

    def _follow(self, client: Any, moved: threading.Event) -> None:
        """Draws coarse pictures while the camera moves, and a sharp one when it rests."""
        clients = self._server.get_clients
        while True:
            moved.wait()
            if client.client_id not in clients():
                return
            while moved.is_set():
                moved.clear()
                self._show(client, max(16, round(self._size * _MOVING_SHARE)))
                time.sleep(0.02)
            self._show(client, self._size)

    def _show(self, client: Any, longest: int) -> None:
        camera = client.camera
        picture = self.draw(
            opengl_pose(np.asarray(camera.wxyz), np.asarray(camera.position)),
            vertical_angle=float(camera.fov),
            aspect=float(camera.aspect),
            longest=longest,
        )
        client.scene.set_background_image(picture, format="jpeg")


def opengl_pose(
    wxyz: Float[np.ndarray, " 4"], position: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "4 4"]:
    """Turns the viewer's camera (OpenCV axes: y down, looks along +z) into camera-to-world."""
    w, x, y, z = np.asarray(wxyz, np.float64) / np.linalg.norm(wxyz)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 1:3] *= -1.0
    pose[:3, 3] = position
    return pose


def serve(path: str, *, host: str, port: int, size: int) -> None:
    """Loads a run and serves it until interrupted."""
    run = loaded_run.load(path)
    viewer = Viewer(run, host=host, port=port, size=size)
    print(f"{path}, step {run.step}: http://{host}:{viewer.port}  (Ctrl-C ends)")
    try:
        while True:
            time.sleep(1.0)
    finally:
        viewer.stop()
