"""The web viewer of block worlds: a map, or a run's map at its start and its end, as a mesh."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from voxels.block_map import BlockMap
from voxels.formats.any_map import READABLE, load_any_map
from voxels.meshing import face_mesh
from voxels.palette import Palette, terrain_palette

from . import pictures, run_folder, voxels_setup
from .voxels_config import VoxelsJob

_FIELD_OF_VIEW = np.radians(50.0)


class MapViewer:
    """Serves named maps of one size; a visitor picks which one is shown."""

    def __init__(
        self,
        maps: dict[str, BlockMap],
        *,
        host: str,
        port: int,
        palette: Palette | None = None,
    ):
        import viser

        self._server = viser.ViserServer(host=host, port=port, verbose=False)
        self.port = self._server.get_port()
        scene, shown = self._server.scene, list(maps)[-1]
        lit, sky = (
            np.asarray(color) for color in voxels_setup.lighting(palette or terrain_palette())
        )
        scene.set_up_direction("+y")
        # light is baked into the colours, so every face gets the same of it here
        scene.configure_default_lights(enabled=False)
        scene.configure_environment_map(hdri=None)
        scene.add_light_ambient("light", intensity=np.pi)
        scene.set_background_image(np.full((2, 2, 3), np.round(255 * sky), np.uint8))
        meshes = {}
        for name, block_map in maps.items():
            surface = textured_surface(block_map, lit)
            meshes[name] = scene.add_mesh_trimesh(f"maps/{name}", surface, visible=name == shown)
        first = maps[shown]
        size = np.array(first.materials.shape) * first.scale
        self._centre = np.array([0.0, 0.4 * size[1], 0.0])
        self._eye = self._centre + size.max() * np.array([1.0, 0.9, 1.3])
        if len(maps) > 1:
            choice = self._server.gui.add_dropdown("map", tuple(maps), initial_value=shown)

            @choice.on_update
            def _(_: Any) -> None:
                for name, mesh in meshes.items():
                    mesh.visible = name == choice.value

        for name, block_map in maps.items():
            self._server.gui.add_text(name, f"{block_map.num_blocks:,} blocks", disabled=True)
        self._server.on_client_connect(self._welcome)

    def stop(self) -> None:
        """Ends the server."""
        self._server.stop()

    def _welcome(self, client: Any) -> None:
        client.camera.position = tuple(self._eye)
        client.camera.look_at = tuple(self._centre)
        client.camera.fov = float(_FIELD_OF_VIEW)


def is_voxels(path: str) -> bool:
    """Whether a path is a map, or the folder of a block-world run."""
    if Path(path).suffix.lower() in READABLE:
        return True
    try:
        stored = run_folder.read_json(Path(path) / "config.json")
    except (OSError, ValueError):
        return False
    return run_folder.job_of(stored) == "voxels"


def load_maps(path: str) -> tuple[dict[str, BlockMap], Palette]:
    """The map of a file, or "before" (or "hidden") and "after" of a run, and what they are made of.

    Raises:
      FileNotFoundError, ValueError: naming the file.
    """
    if Path(path).suffix.lower() in READABLE:
        palette = terrain_palette()
        return {Path(path).name: _read(path, palette)}, palette
    folder = run_folder.existing(path)
    exported, palette = voxels_setup.exported_map(folder)
    known = voxels_setup.load(run_folder.read_job(folder, VoxelsJob).world)
    if known.known == "none":
        return {"after": exported}, palette
    before = "hidden" if known.known == "hidden" else "before"
    return {before: known.block_map, "after": exported}, palette


def serve(path: str, *, host: str, port: int) -> None:
    """Serves a map or a run until interrupted."""
    maps, palette = load_maps(path)
    viewer = MapViewer(maps, host=host, port=port, palette=palette)
    print(f"{path}: http://{host}:{viewer.port}  (Ctrl-C ends)")
    try:
        while True:
            time.sleep(1.0)
    finally:
        viewer.stop()


def _read(path: str | Path, palette: Palette) -> BlockMap:
    block_map, repairs = load_any_map(path, palette)
    if repairs:
        print(f"note: {path}: {repairs.describe()}")
    return block_map


def textured_surface(block_map: BlockMap, lit: Float[np.ndarray, "materials 6 3"]) -> Any:
    """The exposed faces as a trimesh, whose texture has one pixel per material and face.

    Raises:
      ValueError: a map without blocks.
    """
    import trimesh
    from trimesh.visual.material import PBRMaterial

    mesh = face_mesh(block_map)
    if not len(mesh.face):
        raise ValueError("the map has no blocks, so there is nothing to show")
    across, down = (mesh.face + 0.5) / 6, (mesh.material - 0.5) / len(lit)
    corners = np.repeat(np.stack([across, 1.0 - down], axis=-1), 4, axis=0)
    colors = Image.fromarray(pictures.to_uint8(lit))
    material = PBRMaterial(baseColorTexture=colors, metallicFactor=0.0, roughnessFactor=1.0)
    visual = trimesh.visual.TextureVisuals(uv=corners, material=material)  # pyright: ignore[reportAttributeAccessIssue]
    vertices = mesh.corners.reshape(-1, 3)
    return trimesh.Trimesh(vertices, mesh.triangles(), visual=visual, process=False)
