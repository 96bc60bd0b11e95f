"""Writes an analytic scene to disk in every capture format, as other tools do."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from scenes import analytic
from scenes.cameras import make_cameras, opengl_from_opencv
from scenes.formats.depth_maps import ray_lengths
from scenes.posed_images import PosedImages
from scenes.rotations import nearest_rotation, rigid

LENS = np.array([0.02, -0.01, 0.001, -0.0005, 0.0, 0.0, 0.0, 0.0])
NUM_VIEWS = 9
SIZE = (20, 24)  # rows, cols


def truth(num_views: int = NUM_VIEWS, *, lens: bool = False) -> PosedImages:
    """Views of 'blocks' from a world that is turned, scaled by 0.3 and moved, 20 x 24 pixels."""
    posed = analytic.posed_images("blocks", num_train=num_views, num_test=1, size=24).train
    turn = nearest_rotation(np.random.default_rng(7).normal(size=(3, 3)))
    poses = np.float64(posed.cameras.camera_to_world)
    poses[:, :3, 3] *= 0.3
    poses = rigid(turn, np.array([5.0, -3.0, 2.0])) @ poses
    focal = np.asarray(posed.cameras.focal[0]) * [1.0, 1.02]
    cameras = make_cameras(poses, focal, np.array([12.3, 9.6]), LENS if lens else None)
    depth = posed.depth[:, 2:-2] * np.float32(0.3)
    images = posed.images[:, 2:-2]
    return posed._replace(
        images=np.ascontiguousarray(images),
        cameras=cameras,
        depth=depth,
        names=tuple(f"{index:03d}.png" for index in range(num_views)),
    )


def save_images(folder: Path, posed: PosedImages, pattern: str = "{:03d}.png") -> None:
    """Saves the pictures without alpha, over white."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(posed.images):
        alpha = image[..., 3:] / 255.0
        color = np.round(image[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
        Image.fromarray(color).save(folder / pattern.format(index))


def planar(posed: PosedImages) -> np.ndarray:
    """Planar depth, 0 where unknown."""
    return np.nan_to_num(posed.depth / ray_lengths(posed.cameras, posed.rows, posed.cols))


def opencv_poses(posed: PosedImages) -> np.ndarray:
    """Camera to world with OpenCV's axes."""
    return opengl_from_opencv(np.float64(posed.cameras.camera_to_world))


def transforms(folder: Path, *, lens: bool = True, with_depth: bool = True) -> PosedImages:
    """nerfstudio's transforms.json, with depth in half millimetres."""
    posed = truth(lens=lens)
    save_images(folder / "images", posed)
    (folder / "depth").mkdir()
    frames = []
    for index, pose in enumerate(np.float64(posed.cameras.camera_to_world)):
        frame = {"file_path": f"images/{index:03d}.png", "transform_matrix": pose.tolist()}
        if with_depth:
            frame["depth_file_path"] = f"depth/{index:03d}.png"
            stored = np.round(planar(posed)[index] / 0.0005).astype(np.uint16)
            Image.fromarray(stored).save(folder / frame["depth_file_path"])
        frames.append(frame)
    focal, principal = np.float64(posed.cameras.focal[0]), np.float64(posed.cameras.principal[0])
    values = {"camera_model": "OPENCV", "fl_x": focal[0], "fl_y": focal[1], "frames": frames}
    values |= {"cx": principal[0], "cy": principal[1], "w": SIZE[1], "h": SIZE[0]}
    lens_values = np.float64(posed.cameras.distortion[0])
    values |= dict(zip(("k1", "k2", "p1", "p2"), lens_values.tolist(), strict=False))
    values["depth_unit_scale_factor"] = 0.0005
    (folder / "transforms.json").write_text(json.dumps(values))
    return posed


def llff(folder: Path) -> PosedImages:
    """poses_bounds.npy: one focal length, principal point in the middle."""
    posed = truth()
    focal = float(posed.cameras.focal[0, 0])
    cameras = make_cameras(
        np.asarray(posed.cameras.camera_to_world),
        np.full(2, focal),
        np.array([SIZE[1] / 2, SIZE[0] / 2]),
    )
    posed = posed._replace(cameras=cameras)
    save_images(folder / "images", posed)
    rows = []
    for pose, depth in zip(np.float64(posed.cameras.camera_to_world), planar(posed), strict=True):
        right, up, back, origin = pose[:3].T
        matrix = np.stack([-up, right, back, origin, [SIZE[0], SIZE[1], focal]], axis=1)
        known = depth[depth > 0]
        rows.append([*matrix.reshape(-1), known.min(), known.max()])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return posed


def colmap(folder: Path) -> PosedImages:
    """A text model with one OPENCV camera; its points are where the views' depth says."""
    posed = truth(lens=True)
    save_images(folder / "images", posed)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    camera = [*posed.cameras.focal[0], *posed.cameras.principal[0], *LENS[:4]]
    numbers = " ".join(repr(float(value)) for value in camera)
    (model / "cameras.txt").write_text(f"# cameras\n7 OPENCV {SIZE[1]} {SIZE[0]} {numbers}\n")
    lines, points = ["# images"], ["# points"]
    for index, pose in enumerate(opencv_poses(posed)):
        world_to_camera = np.linalg.inv(pose)
        x, y, z, w = Rotation.from_matrix(world_to_camera[:3, :3]).as_quat()
        numbers = " ".join(repr(float(v)) for v in (w, x, y, z, *world_to_camera[:3, 3]))
        lines.append(f"{index + 1} {numbers} 7 {index:03d}.png")
        lines.append(f"{8.5 + index} 7.25 {index + 1} 3.0 4.0 -1")
        position = " ".join(repr(float(v)) for v in pose[:3, 3] + 1.2 * pose[:3, 2])
        points.append(f"{index + 1} {position} 200 100 50 0.5 1 0 2 0 3 0")
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("\n".join(points) + "\n")
    return posed


def rgbd(folder: Path) -> PosedImages:
    """Files side by side as 7-Scenes has them, depth in millimetres."""
    posed = truth()
    save_images(folder, posed, "frame-{:06d}.color.png")
    for index, (pose, depth) in enumerate(zip(opencv_poses(posed), planar(posed), strict=True)):
        np.savetxt(folder / f"frame-{index:06d}.pose.txt", pose)
        stored = np.round(depth * 1000).astype(np.uint16)
        Image.fromarray(stored).save(folder / f"frame-{index:06d}.depth.png")
    focal, principal = posed.cameras.focal[0], posed.cameras.principal[0] - 0.5
    matrix = [[focal[0], 0, principal[0]], [0, focal[1], principal[1]], [0, 0, 1]]
    np.savetxt(folder / "camera-intrinsics.txt", np.float64(matrix))
    return posed


def klevr(folder: Path) -> PosedImages:
    """metadata.json with quaternions; float depth with 1e10 behind everything."""
    posed = truth()
    focal = float(posed.cameras.focal[0, 0])
    cameras = make_cameras(
        np.asarray(posed.cameras.camera_to_world),
        np.full(2, focal),
        np.array([SIZE[1] / 2, SIZE[0] / 2]),
    )
    posed = posed._replace(cameras=cameras)
    save_images(folder, posed, "rgba_{:05d}.png")
    for index, depth in enumerate(planar(posed)):
        stored = np.where(depth > 0, depth, 1e10).astype(np.float32)
        Image.fromarray(stored).save(folder / f"depth_{index:05d}.tiff")
    poses = np.float64(posed.cameras.camera_to_world)
    quaternions = Rotation.from_matrix(poses[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    values = {
        "metadata": {"width": SIZE[1], "height": SIZE[0]},
        "camera": {
            "focal_length": focal * 32.0 / SIZE[1],
            "sensor_width": 32.0,
            "positions": poses[:, :3, 3].tolist(),
            "quaternions": quaternions.tolist(),
        },
        "scene_boundaries": {"min": [4.5, -3.5, 1.5], "max": [5.5, -2.5, 2.5]},
        "split_ids": {"train": [0, 1, 2, 4, 5, 6, 7], "test": [3, 8]},
    }
    (folder / "metadata.json").write_text(json.dumps(values))
    return posed


WRITERS = {
    "transforms": transforms,
    "llff": llff,
    "colmap": colmap,
    "rgbd": rgbd,
    "klevr": klevr,
}
