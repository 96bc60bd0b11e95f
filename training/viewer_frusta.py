"""Training cameras in the web viewer: where they stand, what they saw, where the field is wrong,
and where the sampler looks."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from scenes.cameras import scale_pixels
from scenes.posed_images import PosedImages, spread_views

from . import pictures, sampler_pictures
from .loaded_run import LoadedRun
from .nerf_evaluation import over
from .nerf_setup import bounds

_MAX_FRUSTA = 24
_LONGEST = 96


class Frusta:
    """The cameras of a run as frusta with pictures; a click takes the visitor there.

    Args:
      server: viser's.
      run: gives the run as it is now.
      mode: gives what is to be shown now, one of `view_command.CameraMode`.
      lock: held while the field is rendered.
    """

    def __init__(
        self,
        server: Any,
        run: Callable[[], LoadedRun],
        mode: Callable[[], str],
        lock: threading.Lock,
    ):
        self._server, self._run, self._mode, self._lock = server, run, mode, lock
        self._handles: list[Any] = []
        self._showing = threading.Lock()

    def show(self) -> None:
        """Replaces the frusta by those of the mode that is to be shown.

        Threads wait for each other, and the last of them finds the mode that holds then.
        """
        with self._showing:
            self._replace(self._mode())

    def _replace(self, mode: str) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if mode == "none":
            return
        posed = spread_views(self._run().setup.scene.train, _MAX_FRUSTA)
        shown = self.images(mode)
        poses = np.asarray(posed.cameras.camera_to_world, np.float64)
        spread = np.linalg.norm(poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0), axis=-1)
        size = 0.12 * max(float(spread.mean()), 1e-3)
        for index, (name, pose, image) in enumerate(zip(posed.names, poses, shown, strict=True)):
            wxyz, position = viewer_pose(pose)
            focal = float(np.asarray(posed.cameras.focal)[index, 1])
            handle = self._server.scene.add_camera_frustum(
                f"cameras/{index:03d} {name.replace('/', '-')}",
                fov=float(2 * np.arctan(0.5 * posed.rows / focal)),
                aspect=posed.cols / posed.rows,
                scale=size,
                thickness=0.02 * size,
                color=(110, 110, 110),
                image=image,
                wxyz=wxyz,
                position=position,
            )
            handle.on_click(lambda event, pose=pose: _go(event.client, pose))
            self._handles.append(handle)

    def images(self, mode: str) -> list[UInt8[np.ndarray, "rows cols 3"]]:
        """Makes the small pictures of a mode, one per frustum."""
        run = self._run()
        train = run.setup.scene.train
        posed = spread_views(train, _MAX_FRUSTA)
        stride = max(1, -(-max(posed.rows, posed.cols) // _LONGEST))
        photos = [over(image[::stride, ::stride], run.setup.background) for image in posed.images]
        if mode == "photographs":
            return [pictures.to_uint8(photo) for photo in photos]
        if mode == "draws":
            chances = sampler_pictures.density(
                run.setup.sampler,
                run.sampler_state,
                num_views=train.num_views,
                rows=train.rows,
                cols=train.cols,
            )
            places = {name: view for view, name in enumerate(train.names)}
            return [
                pictures.times_average(chances.relative[places[name]][::stride, ::stride])
                for name in posed.names
            ]
        return [
            pictures.error_picture(self._rendered(run, posed, view, photo), photo)
            for view, photo in enumerate(photos)
        ]

    def _rendered(
        self, run: LoadedRun, posed: PosedImages, view: int, photo: np.ndarray
    ) -> Float[np.ndarray, "rows cols 3"]:
        rows, cols = photo.shape[:2]
        cameras = scale_pixels(posed.cameras, np.array([cols / posed.cols, rows / posed.rows]))
        with self._lock:
            rendered = run.evaluator.render(
                run.snapshot,
                bounds(run.setup.scene.train),
                cameras,
                view,
                rows,
                cols,
                run.setup.background,
            )
        return rendered.color


def viewer_pose(
    pose: Float[np.ndarray, "4 4"],
) -> tuple[Float[np.ndarray, " 4"], Float[np.ndarray, " 3"]]:
    """Turns camera-to-world with OpenGL axes into the viewer's quaternion (OpenCV axes) and place.

    Inverts `viewer.opengl_pose`.
    """
    rotation = np.asarray(pose, np.float64)[:3, :3] * np.array([1.0, -1.0, -1.0])
    # the quaternion is the eigenvector of the largest eigenvalue (Bar-Itzhack 2000)
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array(
        [
            [a + e + i, h - f, c - g, d - b],
            [h - f, a - e - i, d + b, g + c],
            [c - g, d + b, e - a - i, h + f],
            [d - b, g + c, h + f, i - a - e],
        ]
    )
    wxyz = np.linalg.eigh(matrix)[1][:, -1]
    return wxyz * (1.0 if wxyz[0] >= 0 else -1.0), np.asarray(pose, np.float64)[:3, 3]


def _go(client: Any, pose: Float[np.ndarray, "4 4"]) -> None:
    wxyz, position = viewer_pose(pose)
    with client.atomic():
        client.camera.wxyz = tuple(wxyz)
        client.camera.position = tuple(position)
