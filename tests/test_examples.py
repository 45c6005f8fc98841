"""The examples run as printed, and make what they say."""

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import lift3d
from lift3d.config.toml import read_category
from lift3d.gan.own import as_gan

EXAMPLES = Path(__file__).parents[1] / "examples"
TESTED = {
    "render_views_and_lights",
    "interpolate_two_heads",
    "dataset_in_a_dataloader",
    "mesh_for_blender",
    "photograph",
    "lift_your_gan",
    "read_with_h5py_alone",
    "train_normals_from_images",
    "face_gan",
    "segment_people",
}
WORKED = {"face_gan"}  # a reader of a format of its own: as long as that takes


def run(name: str, folder: Path, *arguments: str) -> str:
    """Output of an example, started in ``folder``."""
    setting = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=setting, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(float)


def test_categories_are_read() -> None:
    found = {path.stem: read_category(path).name for path in EXAMPLES.glob("*.toml")}
    assert found == {"faces": "faces", "cats": "cats"}


def test_every_example_is_short_and_tested() -> None:
    found = {path.stem: path.read_text().count("\n") for path in EXAMPLES.glob("*.py")}
    assert set(found) == TESTED
    assert max(lines for name, lines in found.items() if name not in WORKED) <= 30


def test_four_views_under_two_lights(tmp_path: Path) -> None:
    run("render_views_and_lights", tmp_path)
    picture = read(tmp_path / "views.png")
    assert picture.shape == (2 + 2 * 130, 2 + 4 * 130, 3)
    left, right = picture[2:130], picture[132:260]  # the light comes from the left, then from the right
    shown = (left < 250).all(-1) & (right < 250).all(-1)
    assert np.abs(left - right)[shown].mean() > 10


def test_a_walk_between_two_heads(tmp_path: Path) -> None:
    run("interpolate_two_heads", tmp_path)
    picture = read(tmp_path / "walk.png")
    steps = [picture[2:130, 2 + 130 * i : 130 + 130 * i] for i in range(6)]
    change = [np.abs(a - b).mean() for a, b in zip(steps, steps[1:], strict=False)]
    assert np.abs(steps[0] - steps[-1]).mean() > max(change) > 0.1


def test_a_dataset_in_a_loader_and_by_h5py_alone(tmp_path: Path) -> None:
    lines = run("dataset_in_a_dataloader", tmp_path).splitlines()
    assert len(lines) == 2 and all("(2, 3, 2, 64, 64, 3) (2, 3, 64, 64, 3)" in line for line in lines)
    with h5py.File(tmp_path / "faces.h5") as file:
        assert file["done"][:].all()
    run("read_with_h5py_alone", tmp_path, "faces.h5")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size == (900, 300)


def test_a_network_learns_normals(tmp_path: Path) -> None:
    """Some seconds of training see more than no training, on samples that were not trained on."""
    plan = lift3d.DatasetPlan(
        n=5, views=4, lights=3, size=32, split=(0.6, 0.4, 0.0), meshes="none", mesh_resolution=48
    )
    lift3d.write_dataset(lift3d.load("demo"), plan, tmp_path / "faces.h5")
    words = "mean error on the val split: "
    untrained, trained = (
        float(run("train_normals_from_images", tmp_path, "faces.h5", s).removeprefix(words).split()[0])
        for s in ("0", "15")
    )
    assert trained < 0.6 * untrained


@pytest.mark.parametrize("name", ["head.glb"])
def test_a_textured_mesh(tmp_path: Path, name: str) -> None:
    assert "faces" in run("mesh_for_blender", tmp_path, name)
    mesh = trimesh.load(tmp_path / name, force="mesh")
    assert 1_000 < len(mesh.faces) <= 5_000 and mesh.visual.material.baseColorTexture.size == (256, 256)


def test_a_photograph(tmp_path: Path) -> None:
    run("photograph", tmp_path, "astronaut.png", "3")
    with Image.open(tmp_path / "turned.png") as picture:
        assert picture.size == (384, 128)
    assert len(trimesh.load(tmp_path / "head.glb", force="mesh").faces) > 1_000


def test_a_gan_of_ones_own(tmp_path: Path, tiny_gan: Path) -> None:
    run("lift_your_gan", tmp_path, str(tiny_gan), "tiny")
    assert (tmp_path / "lifted" / "model.safetensors").exists()
    assert trimesh.load(tmp_path / "sample.glb", force="mesh").is_watertight


def graph(*nodes: tuple[str, str, dict[str, object], tuple[str, ...], int]) -> tuple[str, bytes]:
    """A graph as OpenVINO writes it, of (name, type, attributes or value, inputs "name" or "name:port",
    number of outputs), and its weights.
    """
    weights, layers, edges = b"", "", ""
    number = {name: i for i, (name, *_) in enumerate(nodes)}
    for i, (name, kind, about, inputs, n_out) in enumerate(nodes):
        if kind == "Const":
            value = np.asarray(about["value"])
            kinds = {"float32": "f32", "int64": "i64"}
            shape = ",".join(map(str, value.shape))
            about = {"element_type": kinds[str(value.dtype)], "offset": len(weights), "shape": shape}
            weights += value.tobytes()
        ports = [f'<port id="{k}"/>' for k in range(len(inputs) + n_out)]
        text = " ".join(f'{k}="{v}"' for k, v in about.items())
        layers += (
            f'<layer id="{i}" name="{name}" type="{kind}"><data {text}/><input>'
            f"{''.join(ports[: len(inputs)])}"
            f"</input><output>{''.join(ports[len(inputs) :])}</output></layer>"
        )
        for k, source in enumerate(inputs):
            other, _, port = source.partition(":")
            first = len(nodes[number[other]][3])
            edges += (
                f'<edge from-layer="{number[other]}" from-port="{first + int(port or 0)}" to-layer="{i}" '
                f'to-port="{k}"/>'
            )
    return f"<net><layers>{layers}</layers><edges>{edges}</edges></net>", weights


def face_wheel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """A stand-in for the package of the face GAN: w = PReLU(z), features = (w A) * B, the image their first
    channel, twice as large.
    """
    rng = np.random.default_rng(0)
    a = rng.normal(size=(512, 3)).astype(np.float32) / 20
    b = rng.uniform(0.2, 1, (1, 3, 64, 64)).astype(np.float32)
    one = lambda name, value: (name, "Const", {"value": value}, (), 1)  # noqa: E731
    mapping = graph(
        ("z", "Parameter", {}, (), 1), one("slope", np.float32([0.5])),
        ("w", "PReLU", {}, ("z", "slope"), 1), ("out", "Result", {}, ("w",), 0),
    )  # fmt: skip
    synthesis = graph(
        ("w", "Parameter", {}, (), 1), one("a", a), one("b", b), one("shape", np.int64([0, 3, 1, 1])),
        one("axis", np.int64(1)), one("lengths", np.int64([1, 2])),
        one("kernel", np.ones((1, 1, 1, 2, 2), np.float32)),
        ("wa", "MatMul", {}, ("w", "a"), 1), ("row", "Reshape", {"special_zero": "true"}, ("wa", "shape"), 1),
        ("features", "Multiply", {}, ("row", "b"), 1),
        ("split", "VariadicSplit", {}, ("features", "axis", "lengths"), 2),
        ("ConvTranspose_468", "GroupConvolutionBackpropData",
         {"strides": "2,2", "pads_begin": "0,0", "dilations": "1,1"}, ("split:0", "kernel"), 1),
        ("image", "Concat", {"axis": 1}, ("ConvTranspose_468",) * 3, 1), ("out", "Result", {}, ("image",), 0),
    )  # fmt: skip
    with zipfile.ZipFile(path, "w") as wheel:
        for name, (xml, weights) in (("Mapping", mapping), ("Synthesis", synthesis)):
            wheel.writestr(f"random_face/data/{name}Network.xml", xml)
            wheel.writestr(f"random_face/data/{name}Network.bin", weights)
    return a, b


def test_the_reader_of_the_face_gan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("face_gan", EXAMPLES / "face_gan.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "N_FIT", 8)
    monkeypatch.setattr(module, "FIT_STEPS", 300)
    a, b = face_wheel(tmp_path / module.WHEEL)
    gan = as_gan(module.generator()).generator

    z = torch.randn(3, 512)
    w = torch.where(z > 0, z, 0.5 * z)
    torch.testing.assert_close(gan.to_w(z), w)
    features = (w.numpy() @ a)[:, :, None, None] * b
    torch.testing.assert_close(gan.network(w, gan.cut), torch.from_numpy(features), rtol=1e-4, atol=1e-5)
    image = features[:, :1].repeat(2, 2).repeat(2, 3).repeat(3, 1)
    torch.testing.assert_close(gan.network(w), torch.from_numpy(image), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        near = gan.w_avg.lerp(w, 0.7)
        left = gan.to_image(near) - torch.from_numpy((near.numpy() @ a)[:, :1, None, None] * b[:, :1])
    assert left.std() < 0.3 * torch.from_numpy(features).std()
    again = module.generator()
    assert torch.equal(again.to_image(w), gan.to_image(w))  # colors are fitted once
    step = torch.ones(1, 512, requires_grad=True)
    gan.to_image(gan.w_avg + gan.offset(step)).sum().backward()
    assert step.grad.abs().sum() > 0


STUB = """import types
class SelfieSegmentation:
    def __init__(self, model_selection): ...
    def process(self, picture): return types.SimpleNamespace(segmentation_mask=picture[..., 0] / 255.0)
selfie = types.SimpleNamespace(SelfieSegmentation=SelfieSegmentation)
solutions = types.SimpleNamespace(selfie_segmentation=selfie)
"""


def test_a_segmenter_of_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for MediaPipe takes for people what is red."""
    (tmp_path / "mediapipe.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    image = np.zeros((32, 32, 3), np.uint8)
    image[8:24, 4:20, 0], image[..., 1] = 255, 255
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "7.png")
    run("segment_people", tmp_path, "images", "masks")
    assert ((read(tmp_path / "masks" / "7.png") > 127) != (image[..., 0] > 0)).sum() <= 64  # the edge
