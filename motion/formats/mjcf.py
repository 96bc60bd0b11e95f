"""Robots from MJCF files: the G1 in an installed package, or any file of the user's.

Meshes are taken out before compiling, so their files need not exist. Masses are unchanged where
the file gives inertias, which is required of bodies that have nothing but meshes.
"""

# pyright: reportAttributeAccessIssue=false
# (MuJoCo's compiled names have no stubs)

import importlib.metadata
import os
from pathlib import Path

import mujoco

from motion.robots import g1, inference
from motion.robots.description import CollisionSet, Robot, RobotDescription, build_robot
from motion.robots.humanoid import humanoid_robot

G1_PACKAGE = "playground"
_G1_FILE = "g1/xmls/g1_mjx_feetonly.xml"


def load_robot(
    name: str | os.PathLike[str],
    *,
    description: RobotDescription | None = None,
    collision: CollisionSet = "feet",
) -> Robot:
    """Loads a robot: "humanoid" (built in), "g1" (from an installed package) or an MJCF file.

    Args:
      description: for a file; None infers one, see `inference.infer_description`.
    Raises:
      FileNotFoundError: for a file that is not there, or the G1 without its package.
      ValueError: for a file that is no robot this task can use; says why.
    """
    if name == "humanoid":
        return humanoid_robot(collision=collision)
    if name == "g1":
        spec = read_mjcf(g1_path())
        for joint, limits in g1.LIMITS.items():
            spec.joint(joint).range = limits
        return build_robot(spec, g1.DESCRIPTION, collision=collision)
    path = Path(name)
    if not path.suffix and not path.exists():
        raise FileNotFoundError(
            f"no robot {str(name)!r}: robots are humanoid, g1, or the path of an MJCF file"
        )
    spec = read_mjcf(path)
    try:
        if description is None:
            description = inference.infer_description(spec, path.stem)
        return build_robot(spec, description, collision=collision)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def g1_path() -> Path:
    """Finds the G1's MJCF file in an installed package, without importing it.

    Raises:
      FileNotFoundError: when the package or the file is missing; says what to install.
    """
    try:
        files = importlib.metadata.files(G1_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(_G1_FILE):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"the G1's body model comes with the package {G1_PACKAGE} 0.2, which is not installed: "
        'pip install "hardlight[g1]", or give --robot the path of an MJCF file'
    )


def read_mjcf(path: Path) -> mujoco.MjSpec:
    """Reads an MJCF file without its meshes, textures, sensors and keyframes' controls.

    Raises:
      FileNotFoundError: when it is not there.
      ValueError: when MuJoCo cannot parse it, with MuJoCo's reason.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no MJCF file {path}")
    try:
        spec = mujoco.MjSpec.from_file(str(path))
    except (ValueError, mujoco.FatalError) as error:
        raise ValueError(f"{path}: not a readable MJCF file: {error}") from error
    for geom in list(spec.geoms):
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.delete(geom)
    for parts in (spec.meshes, spec.textures, spec.sensors, spec.skins):
        for part in list(parts):
            spec.delete(part)
    for material in spec.materials:
        material.textures = [""] * len(material.textures)
    return spec
