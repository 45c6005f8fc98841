"""Blender files: a mesh with its material, and the cameras and lights that look at it.

Blender runs in a process of its own (``scene``); nothing here imports it. What it is told, the *job*,
is in Blender's words already: z up, cameras that look along -z, suns that shine along -z. lift3d's (x, y, z)
is Blender's (x, -z, y), and lengths are multiplied by ``scale``. Shading stays display-referred: colors are
written as they are (Non-Color data), the view transform is Raw, a sun of energy pi k_d lights like k_d.

Blender is, in this order: the path given, the variable LIFT3D_BLENDER, ``blender`` on the PATH, this Python
if it has bpy. A path is that of Blender's program or of a Python (python3.11) that has bpy.
"""

import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray
from torch import Tensor

from lift3d.errors import BackendUnavailable, ConfigError, Lift3DError
from lift3d.export.convert.cameras import Z_UP, opengl, z_up
from lift3d.export.meshes.pbr import roughness
from lift3d.export.meshes.texture import Textures, png
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, drop_unreferenced, require_material, vertex_normals
from lift3d.whole_file import require_suffix, write_whole

MATERIALS = ("pbr", "exact")  # Principled BSDF; a lobe of Phong's shape
VARIABLE = "LIFT3D_BLENDER"
SCRIPT = Path(__file__).with_name("scene.py")
SENSOR = 36.0  # mm, the width of every camera's sensor
INSTALL = "python3.11 -m venv bpy && bpy/bin/pip install bpy==4.5.15"


def write_blend(
    mesh: Mesh,
    path: Path | str,
    cameras: Cameras,
    lights: Lights,
    size: int,
    material: str = "exact",
    scale: float = 1.0,
    textures: Textures | None = None,
    blender: Path | str | None = None,
) -> None:
    """Write a compressed .blend file: the mesh with its material, V cameras, L suns, of which one shines.

    ``cameras`` [v] and ``lights`` [l] are batches; the first of each is the active one. ``size`` is the side
    of the images in pixels, ``scale`` the length of a world unit in meters, ``material`` one of
    ``MATERIALS``, ``maps`` its textures (else it is read off the vertices), ``blender`` a path (module
    docstring). Raises ``ConfigError`` for numbers out of range and lights with a negative term,
    ``BackendUnavailable`` where there is no Blender, ``Lift3DError`` with Blender's last words where it
    fails; ``path`` is whole or as it was.
    """
    path = require_suffix(path, ".blend")
    job = scene_job(cameras, lights, size, material, scale)
    arrays = mesh_arrays(mesh, scale, textures)
    command = find_blender(blender)
    with tempfile.TemporaryDirectory(prefix="lift3d-") as name:
        folder = Path(name)
        np.savez(folder / "mesh.npz", **arrays)
        if textures is not None:
            job["images"] = save_textures(textures, folder)
        out = folder / "scene.blend"
        _run_job(command, folder, job | {"task": "build", "mesh": str(folder / "mesh.npz"), "out": str(out)})
        write_whole(path, out.read_bytes())


def render_blend(
    path: Path | str, shots: Sequence[tuple[int, int]], samples: int = 64, blender: Path | str | None = None
) -> Float32[ndarray, "n h w 4"]:
    """What Cycles makes of a file of ``write_blend``: an image for each (view, light), by their numbers.

    Colors are display-referred, multiplied by the coverage in the fourth channel, and not clipped.
    """
    if not Path(path).is_file():
        raise ConfigError(f"{path} is not a file; give a .blend file that lift3d wrote")
    named = [[f"view {view}", f"light {light}"] for view, light in shots]
    job = {"blend": str(Path(path).resolve()), "shots": named, "samples": samples, "threads": 1}
    command = find_blender(blender)
    with tempfile.TemporaryDirectory(prefix="lift3d-") as name:
        out = Path(name) / "images.npy"
        _run_job(command, Path(name), job | {"task": "render", "out": str(out)})
        return np.load(out)


def check_setting(material: str, scale: float) -> None:
    """Raise for a material or a scale that ``scene_job`` does not know."""
    if material not in MATERIALS:
        raise ConfigError(f"material is {material!r}, expected one of {', '.join(MATERIALS)}")
    if not (math.isfinite(scale) and scale > 0):
        raise ConfigError(f"scale is {scale}, expected a number above 0")


def scene_job(cameras: Cameras, lights: Lights, size: int, material: str, scale: float) -> dict:
    """All of the job but the mesh, as JSON has it: matrices by rows, lengths in meters, ``lens`` in mm."""
    check_setting(material, scale)
    if size < 1:
        raise ConfigError(f"size is {size}, expected at least 1 pixel")
    if bool((lights.negative != 0).any()):
        raise ConfigError(
            f"a light has a negative shading term ({float(lights.negative.abs().max()):.3g}), which Blender "
            "has not; take lights without it, or export a mesh without lights (.glb)"
        )
    if not len(cameras) or not len(lights):
        raise ConfigError(f"{len(cameras)} cameras and {len(lights)} lights, expected one of each")
    suns = zip(_array(lights.direction), lights.ambient.tolist(), lights.diffuse.tolist(), strict=True)
    distances = np.linalg.norm(_array(cameras.origins), axis=-1).tolist()
    return {
        "size": size,
        "material": material,
        "scale": scale,
        "sensor": SENSOR,
        "lens": cameras.focal_length(size) * SENSOR / size,
        "cameras": [
            {
                "name": f"view {i}",
                "matrix": matrix.tolist(),
                "clip": [scale * max(distance - 2.0, distance / 100.0), scale * (distance + 2.0)],
            }
            for i, (matrix, distance) in enumerate(
                zip(camera_matrices(cameras, scale), distances, strict=True)
            )
        ],
        "lights": [
            {
                "name": f"light {i}",
                "to_light": (Z_UP @ direction).tolist(),
                "ambient": ambient,
                "energy": math.pi * diffuse,
            }
            for i, (direction, ambient, diffuse) in enumerate(suns)
        ],
    }


def camera_matrices(cameras: Cameras, scale: float = 1.0) -> Float[ndarray, "v 4 4"]:
    """``matrix_world`` of Blender's cameras, which look along -z with y up, as OpenGL's do."""
    matrices = z_up(opengl(_array(cameras.cam2world())))
    matrices[:, :3, 3] *= scale
    return matrices


def mesh_arrays(mesh: Mesh, scale: float = 1.0, textures: Textures | None = None) -> dict[str, ndarray]:
    """The mesh in Blender's axes, by the names of ``Mesh``, with material or places in the textures."""
    if textures is None:
        require_material(mesh, "a material needs all three")
    elif len(textures.uv) != len(mesh.vertices):
        raise ConfigError(
            f"textures have places for {len(textures.uv)} vertices, the mesh has {len(mesh.vertices)}"
        )
    used = np.unique(mesh.faces)
    mesh = drop_unreferenced(mesh)
    normals = vertex_normals(mesh) if mesh.normals is None else mesh.normals
    turned = {"vertices": mesh.vertices @ Z_UP.T * scale, "normals": normals @ Z_UP.T}
    places = {} if textures is None else {"uv": textures.uv[used]}
    arrays = mesh.attributes() | turned | places
    return {k: np.ascontiguousarray(v, np.float32) for k, v in arrays.items()} | {"faces": mesh.faces}


def save_textures(textures: Textures, folder: Path) -> dict[str, str]:
    """Pictures of 8 bits, by their role: albedo; red specular intensity, green roughness (``pbr``); normals
    if there are any.
    """
    lobe = np.stack((textures.specular, roughness(textures.shininess), np.zeros_like(textures.specular)), -1)
    pictures = {"albedo": textures.albedo, "specular roughness": lobe}
    if textures.normal is not None:
        pictures["normal"] = textures.normal / 2 + 0.5
    for name, values in pictures.items():
        (folder / f"{name}.png").write_bytes(png(values))
    return {name: str(folder / f"{name}.png") for name in pictures}


def _array(tensor: Tensor) -> Float64[ndarray, "..."]:
    return tensor.detach().cpu().numpy().astype(np.float64)


def find_blender(path: Path | str | None = None) -> tuple[str, ...]:
    """The command that runs a script in Blender, up to the script. Blender's own program needs to be told to
    stay in the background and not to read the user's setting.
    """
    named = path or os.environ.get(VARIABLE)
    program = shutil.which(str(named or "blender"))
    if named and program is None:
        raise BackendUnavailable(
            f"{named} is no program; give the path of Blender, or of a Python that has bpy ({INSTALL})"
        )
    if program is None and importlib.util.find_spec("bpy") is not None:
        program = sys.executable
    if program is None:
        raise BackendUnavailable(
            "a .blend file needs Blender 4.2 or newer: install it from blender.org, or bpy in an environment "
            f"of its own ({INSTALL}), and set {VARIABLE} to the program (bpy/bin/python)"
        )
    if Path(program).name.startswith("python"):
        return (program,)
    return (program, "--background", "--factory-startup", "--python-exit-code", "1", "--python")


def run_script(command: tuple[str, ...], script: Path, *arguments: Path | str) -> str:
    """What a script prints in Blender; ``Lift3DError`` with its last words if it fails."""
    separator = ("--",) if len(command) > 1 else ()
    full = [*command, str(script), *separator, *map(str, arguments)]
    try:
        done = subprocess.run(full, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise BackendUnavailable(
            f"{command[0]} does not start ({error.strerror}); give another path"
        ) from error
    if done.returncode:
        words = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        last = words[-1] if words else f"exit status {done.returncode}"
        raise Lift3DError(f"Blender ({command[0]}) failed: {last}")
    return done.stdout


def _run_job(command: tuple[str, ...], folder: Path, job: dict) -> None:
    """Have a job done, whose file is then at job["out"]."""
    (folder / "job.json").write_text(json.dumps(job))
    run_script(command, SCRIPT, folder / "job.json")
    if not Path(job["out"]).is_file():
        raise Lift3DError(f"{command[0]} wrote no file and gave no reason; check that it is Blender")
