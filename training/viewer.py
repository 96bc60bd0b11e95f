"""The web viewer: renders what the visitor's camera sees, coarse while it moves, then sharp.

It shows colour, depth or opacity, and the training cameras with what they saw, where the field is
wrong, or where the sampler looks. A run that is still training is followed: every new checkpoint
takes the place of the old one.
"""

import threading
import time
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, UInt8

from scenes.cameras import make_cameras, opengl_from_opencv
from scenes.posed_images import PosedImages
from scenes.rotations import matrix_from_quaternion, rigid

from . import camera_paths, checkpoints, loaded_run, pictures, run_folder
from .loaded_run import LoadedRun
from .nerf_setup import bounds
from .view_command import CameraMode, PictureName
from .viewer_frusta import Frusta

_MOVING_SHARE = 0.25
_FOLLOW_SECONDS = 3.0


class Viewer:
    """Serves one loaded run to any number of visitors; one picture is rendered at a time."""

    def __init__(
        self,
        run: LoadedRun,
        *,
        host: str,
        port: int,
        size: int,
        picture: str = "color",
        cameras: str = "none",
    ):
        import viser

        self._run, self._size = run, size
        self._lock = threading.Lock()
        self._server = viser.ViserServer(host=host, port=port, verbose=False)
        self.port = self._server.get_port()
        posed = run.setup.scene.train
        poses = np.asarray(posed.cameras.camera_to_world, np.float64)
        self._server.scene.set_up_direction(tuple(poses[:, :3, 1].mean(axis=0)))
        self._target = camera_paths.looked_at(poses)
        self._moved: dict[int, threading.Event] = {}
        gui = self._server.gui
        self._step = gui.add_text("step", str(run.step), disabled=True)
        self._shown = gui.add_dropdown("picture", get_args(PictureName), initial_value=picture)
        self._shown.on_update(lambda _: self._redraw())
        modes = get_args(CameraMode)
        self._cameras = gui.add_dropdown("cameras", modes, initial_value=cameras)
        self._frusta = Frusta(
            self._server, lambda: self._run, lambda: self._cameras.value, self._lock
        )
        self._frusta.show()
        self._cameras.on_update(lambda _: self._frusta.show())
        self._server.on_client_connect(self._welcome)
        self._server.on_client_disconnect(lambda client: self._forget(client.client_id))

    def stop(self) -> None:
        """Ends the server, and what is drawn for visitors."""
        self._server.stop()
        for client_id in list(self._moved):
            self._forget(client_id)

    def follow(self) -> bool:
        """Takes up the newest checkpoint; says whether there was a newer one."""
        found = loaded_run.newer(self._run)
        if found is None:
            return False
        self._run = found
        self._step.value = str(found.step)
        if self._cameras.value in ("errors", "draws"):
            self._frusta.show()
        self._redraw()
        return True

    def draw(
        self,
        pose: Float[np.ndarray, "4 4"],
        *,
        vertical_angle: float,
        aspect: float,
        longest: int,
        what: str = "color",
    ) -> UInt8[np.ndarray, "rows cols 3"]:
        """Renders one picture.

        Args:
          pose: camera to world, OpenGL axes.
          vertical_angle: full angle of view from top to bottom, radians.
          aspect: width over height.
          longest: longer side in pixels.
          what: color, depth or opacity.
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
        if what == "depth":
            return pictures.depth_picture(view.depth, view.opacity)
        if what == "opacity":
            return pictures.colorize(view.opacity, low=0.0, high=1.0, color_map="gray")
        return pictures.to_uint8(view.color)

    def _redraw(self) -> None:
        for moved in list(self._moved.values()):
            moved.set()

    def _welcome(self, client: Any) -> None:
        posed: PosedImages = self._run.setup.scene.train
        # a place that was photographed: between the cameras a field may know nothing yet
        pose = np.asarray(posed.cameras.camera_to_world[0], np.float64)
        distance = np.linalg.norm(self._target - pose[:3, 3])
        client.camera.position = tuple(pose[:3, 3])
        client.camera.look_at = tuple(pose[:3, 3] - distance * pose[:3, 2])
        client.camera.fov = float(
            2 * np.arctan(0.5 * posed.rows / float(posed.cameras.focal[0, 1]))
        )
        moved = threading.Event()
        moved.set()
        self._moved[client.client_id] = moved
        if client.client_id not in self._server.get_clients():  # gone before it was written down
            self._forget(client.client_id)
        client.camera.on_update(lambda _: moved.set())
        threading.Thread(target=self._follow, args=(client, moved), daemon=True).start()

    def _forget(self, client_id: int) -> None:
        """Wakes the thread that draws for a visitor, which then finds that nobody looks."""
        moved = self._moved.pop(client_id, None)
        if moved is not None:
            moved.set()

    def _follow(self, client: Any, moved: threading.Event) -> None:
        """Draws coarse pictures while the camera moves, and a sharp one when it rests.

        Ends when the visitor is gone.
        """
        while True:
            moved.wait()
            moved.clear()
            if client.client_id not in self._moved:
                return
            self._show(client, max(16, round(self._size * _MOVING_SHARE)))
            time.sleep(0.02)
            if not moved.is_set():
                self._show(client, self._size)

    def _show(self, client: Any, longest: int) -> None:
        camera = client.camera
        picture = self.draw(
            opengl_pose(np.asarray(camera.wxyz), np.asarray(camera.position)),
            vertical_angle=float(camera.fov),
            aspect=float(camera.aspect),
            longest=longest,
            what=self._shown.value,
        )
        client.scene.set_background_image(picture, format="jpeg")


def opengl_pose(
    wxyz: Float[np.ndarray, " 4"], position: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "4 4"]:
    """Turns the viewer's camera (OpenCV axes: y down, looks along +z) into camera-to-world."""
    return opengl_from_opencv(rigid(matrix_from_quaternion(wxyz), position))


def serve(
    path: str, *, host: str, port: int, size: int, picture: str = "color", cameras: str = "none"
) -> None:
    """Loads a run, whose first checkpoint it waits for, and serves it until interrupted."""
    folder = run_folder.existing(path)
    if not checkpoints.steps(folder.checkpoints):
        print(f"{path}: waiting for the run's first checkpoint  (Ctrl-C ends)", flush=True)
        while not checkpoints.steps(folder.checkpoints):
            time.sleep(_FOLLOW_SECONDS)
    run = loaded_run.load(path)
    viewer = Viewer(run, host=host, port=port, size=size, picture=picture, cameras=cameras)
    print(f"{path}, step {run.step}: http://{host}:{viewer.port}  (Ctrl-C ends)")
    try:
        while True:
            time.sleep(_FOLLOW_SECONDS)
            viewer.follow()
    finally:
        viewer.stop()
