"""The compact morphable head model: identities and expressions as linear modes around a mean head.

World frame of cameras.py; every vertex of every head has |x| <= 0.98. The model is built by
build_head_model.py from CC0 data (see NOTICE).
"""

import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from lift3d.errors import ConfigError
from lift3d.scene.mesh import Mesh, vertex_normals

ASSET = Path(__file__).parent.parent / "assets" / "heads.safetensors"
MAX_RADIUS = 0.98
SPLITS = ("train", "benchmark")  # part of every random key: no head is in two splits


@dataclass(frozen=True)
class HeadModel:
    """m vertices, f faces, k identity modes, e expressions, r painted regions."""

    mean: NDArray[np.float32]  # [m, 3]; also the rest coordinates that paint.py paints in
    faces: NDArray[np.int32]  # [f, 3]
    modes: NDArray[np.float32]  # [k, m, 3], scaled to one standard deviation
    expressions: NDArray[np.float32]  # [e, m, 3], full intensity
    expression_names: tuple[str, ...]
    part: NDArray[np.uint8]  # [m]: 0 skin, 1 mouth interior, 2 eye
    regions: NDArray[np.float32]  # [m, r] in [0, 1]
    region_names: tuple[str, ...]

    def vertices(self, identity: NDArray, expression: NDArray) -> NDArray[np.float32]:
        """Vertices [m, 3] of one head: identity [k] in standard deviations, expression [e] in [0, 1].

        A head that would leave the ball of ``MAX_RADIUS`` is shrunk into it.
        """
        v = self.mean + np.tensordot(identity, self.modes, 1) + np.tensordot(expression, self.expressions, 1)
        return (v * min(1.0, MAX_RADIUS / np.linalg.norm(v, axis=1).max())).astype(np.float32)

    def mesh(self, identity: NDArray, expression: NDArray) -> Mesh:
        """Mesh with smooth normals and no material."""
        mesh = Mesh(self.vertices(identity, expression), self.faces)
        return Mesh(mesh.vertices, mesh.faces, vertex_normals(mesh))


@dataclass(frozen=True)
class Shape:
    """What makes one head's geometry."""

    identity: NDArray  # [k]
    expression: NDArray  # [e]


@cache
def load_head_model(path: Path = ASSET) -> HeadModel:
    """The bundled model."""
    with safe_open(path, "numpy") as f:
        meta = f.metadata()
        t = {name: f.get_tensor(name) for name in f.keys()}
    floats = {name: t[name].astype(np.float32) for name in ("mean", "modes", "expressions", "regions")}
    names = {f"{key[:-1]}_names": tuple(json.loads(meta[key])) for key in ("expressions", "regions")}
    return HeadModel(faces=t["faces"], part=t["part"], **floats, **names)


def stream(split: str, kind: str, index: int) -> np.random.Generator:
    """The random stream of one item: another one for every (split, kind, index), the same everywhere."""
    if split not in SPLITS:
        raise ConfigError(f"unknown split {split!r} of the heads, known are {', '.join(SPLITS)}")
    return np.random.default_rng([zlib.crc32(f"lift3d heads 1 {split} {kind}".encode()), index])


def sample_shape(model: HeadModel, split: str, index: int) -> Shape:
    """Identity ``index`` of a split: modes normal (clipped at 2.5 sigma), now and then an expression."""
    rng = stream(split, "shape", index)
    identity = np.clip(rng.normal(size=len(model.modes)), -2.5, 2.5)
    expression = np.zeros(len(model.expressions))
    for name, chance, low, high in (
        ("smile", 0.45, 0.1, 0.9),
        ("frown", 0.12, 0.2, 0.7),
        ("jaw_open", 0.2, 0.05, 0.4),
        ("pucker", 0.08, 0.2, 0.7),
        ("brow_up", 0.25, 0.1, 0.8),
        ("brow_down", 0.25, 0.1, 0.8),
        ("blink", 0.15, 0.1, 0.4),
        ("cheek_puff", 0.08, 0.1, 0.5),
    ):
        chosen, value = rng.random() < chance, rng.uniform(low, high)
        expression[model.expression_names.index(name)] = value if chosen else 0.0
    return Shape(identity, expression)
