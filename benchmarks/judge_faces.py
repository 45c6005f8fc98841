"""An outside judge of turned faces, in an environment of its own:

python -m venv people
people/bin/pip install "mediapipe==0.10.21" "numpy<2" dlib-bin face-recognition-models
people/bin/python judge_faces.py turned

MediaPipe's face mesh says in how many renders it finds a face, and their yaws; dlib's embedding of identity
whether a sample's own image is nearer to its renders than to those of other samples.
"""

import sys
from collections import defaultdict
from pathlib import Path

import dlib
import face_recognition_models
import mediapipe
import numpy as np
from PIL import Image

LEFT_EYE, RIGHT_EYE, CHIN, FOREHEAD = 33, 263, 152, 10  # of the mesh


def read(path: Path) -> np.ndarray:
    """A picture, enlarged, with a margin: faces that fill pictures are not found."""
    with Image.open(path) as image:
        large = np.asarray(image.convert("RGB").resize((384, 384), Image.BICUBIC))
    return np.pad(large, ((64, 64), (64, 64), (0, 0)), mode="edge")


if __name__ == "__main__":
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, min_detection_confidence=0.3)
    shape = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
    embed = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
    yaws, vectors = defaultdict(list), {}
    for path in sorted(Path(sys.argv[1]).glob("*.png")):
        seed, _, kind = path.stem.partition("-")
        picture = read(path)
        found = mesh.process(picture).multi_face_landmarks
        if not found:
            yaws[kind].append(np.nan)
            continue
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark])
        across = points[RIGHT_EYE] - points[LEFT_EYE]
        yaws[kind].append(np.degrees(np.arctan2(across[2], across[0])))
        low, high = (np.int32(f(points[:, :2], 0) * picture.shape[0]).tolist() for f in (np.min, np.max))
        marks = shape(picture, dlib.rectangle(*low, *high))
        vectors[seed, kind] = np.array(embed.compute_face_descriptor(picture, marks))
    turned = sorted((int(k), v) for k, v in yaws.items() if k != "own")
    for requested, read_ in turned:
        share, mean, spread = np.isfinite(read_).mean(), np.nanmean(read_), np.nanstd(read_)
        print(f"yaw {requested}: {share:.0%} of {len(read_)} found; read {mean:.1f}, deviation {spread:.1f}")
    pairs = np.array([(a, b) for a, v in turned for b in v if np.isfinite(b)])
    print(f"correlation of requested and read yaw: {np.corrcoef(pairs.T)[0, 1]:.3f}")
    right = defaultdict(list)
    for (seed, kind), own in vectors.items():
        if kind != "own":
            continue
        for (other, view), vector in vectors.items():
            if view != "own" and other != seed and (seed, view) in vectors:
                nearer = np.linalg.norm(own - vectors[seed, view]) < np.linalg.norm(own - vector)
                right[view].append(nearer)
    for view in sorted(right, key=int):
        print(f"identity, yaw {view}: {np.mean(right[view]):.1%} of {len(right[view])} triplets right")
