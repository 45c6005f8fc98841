"""``transforms.json``, as instant-ngp and nerfstudio read it: a folder per sample and light.

``000003/light001`` is a whole dataset of one still scene: ``transforms.json``, ``images/`` (RGBA, the mask as
alpha, not premultiplied) and ``depth/`` (16 bits, z-depth in thousandths, nerfstudio's default unit).

Conventions of these programs: ``transform_matrix`` is camera to world, OpenGL camera axes (x right, y up, z
backward), z up in the world; ``fl_x, fl_y, cx, cy`` in pixels, centers at +0.5. instant-ngp maps a point p
to ``scale * p + offset`` and looks into the unit cube, which the unit sphere then just fits into. Depth is
``depth_path`` times ``integer_depth_scale`` there, ``depth_file_path`` times 0.001 in nerfstudio.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from lift3d.errors import ConfigError
from lift3d.export.convert.cameras import Z_UP, field_of_view, opengl, z_up
from lift3d.export.convert.images import write_png
from lift3d.export.convert.sample import Sample

DEPTH_SCALE = 0.001  # world units per stored unit of depth
UNIT_CUBE = {"scale": 0.33, "offset": [0.5, 0.5, 0.5], "aabb_scale": 1}


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """One scene per sample and light."""
    for sample in samples:
        for light in range(sample.n_lights):
            scene = folder / sample.name / f"light{light:03d}"
            frames = [_frame(scene, sample, view, light) for view in range(sample.n_views)]
            lenses = [_lens(k, sample.size) for k in sample.k]
            shared = lenses[0] if all(lens == lenses[0] for lens in lenses) else {}
            frames = [frame | ({} if shared else lens) for frame, lens in zip(frames, lenses)]
            direction = Z_UP @ sample.light_dir[light]
            about = shared | UNIT_CUBE | {"camera_model": "OPENCV", "orientation_override": "none"}
            about["integer_depth_scale"] = DEPTH_SCALE
            about["light"] = sample.light(light) | {"direction": direction.tolist()}
            text = json.dumps(about | {"frames": frames}, indent=1)
            (scene / "transforms.json").write_text(text, encoding="utf-8")


def _frame(scene: Path, sample: Sample, view: int, light: int) -> dict[str, object]:
    """One image and its camera; writes the image and its depth."""
    file = f"view{view:03d}.png"
    alpha = (sample.mask(view) * 255).astype(np.uint8)
    write_png(scene / "images" / file, np.dstack((sample.maps["colors"][view, light], alpha)))
    frame = {"file_path": f"images/{file}"}
    if "depth" in sample.maps:
        write_png(scene / "depth" / file, _depth(sample, view))
        frame |= {"depth_path": f"depth/{file}", "depth_file_path": f"depth/{file}"}
    frame["transform_matrix"] = z_up(opengl(sample.cam2world[view])).tolist()
    return frame


def _lens(k: Float32[np.ndarray, "3 3"], size: int) -> dict[str, float | int]:
    """Intrinsics; older readers look for them outside of the frames only."""
    angle_x, angle_y = field_of_view(k, size)
    fl_x, fl_y, cx, cy = (float(k[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    lens = {"w": size, "h": size, "fl_x": fl_x, "fl_y": fl_y, "cx": cx, "cy": cy}
    return lens | {"camera_angle_x": angle_x, "camera_angle_y": angle_y}


def _depth(sample: Sample, view: int) -> np.ndarray:
    """Depth in 16 bits."""
    stored = np.rint(sample.maps["depth"][view].astype(np.float64) / DEPTH_SCALE)
    if stored.max() > 65535:
        raise ConfigError(
            f"sample {sample.number}: depth reaches {stored.max() * DEPTH_SCALE:.1f}, a transforms.json has "
            "at most 65.5; choose another format"
        )
    return stored.astype(np.uint16)
