"""``LiftedGAN``: files, lifting, projection and rendering."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from analytic import surface_of
from tiny_gan import PRESET, tiny_gan

from lift3d import renderers
from lift3d.checkpoint import read_tensors, write_tensors
from lift3d.errors import CheckpointError, ConfigError, CorruptFile, Lift3DError
from lift3d.gan.files.load import save_gan
from lift3d.gan.generator import Liftable
from lift3d.model import LiftedGAN, load
from lift3d.networks.fields import ellipsoid_sdf
from lift3d.render.mesh import render_mesh
from lift3d.render.volume import SamplingConfig
from lift3d.renderers import MeshRenderer, VolumeRenderer
from lift3d.scene import cameras, lights
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import resize
from lift3d.scene.isosurface import cell_size, extract_mesh
from lift3d.scene.lights import Lights
from lift3d.scene.surface_mesh import project_to_surface
from lift3d.train import refine


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(1)
    lifted = LiftedGAN(PRESET, tiny_gan().generator)
    with torch.no_grad():  # an untrained residual is zero: give it some shape
        lifted.shape.head.weight.normal_(0, 0.005)
        lifted.shape.body.biases.weight.normal_(0, 0.5)
    return lifted.requires_grad_(False)


def test_sample_depends_on_the_seed_alone(model):
    both, one = model.sample([3, 8]), model.sample([8])
    for name in ("z", "w", "code", "image", "view", "light"):
        torch.testing.assert_close(getattr(both, name)[1:], getattr(one, name), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(both.z[0], both.z[1])
    assert both.image.shape == (2, 3, 16, 16) and both.view.shape == (2, 6) and both.light.shape == (2, 5)
    with pytest.raises(ConfigError, match="truncation is 1.5, expected 0..1"):
        model.sample([0], truncation=1.5)


def test_truncation_zero_is_the_mean_image(model):
    w = model.sample([1, 2], truncation=0.0).w
    torch.testing.assert_close(w, model.generator.mapping.w_avg.expand_as(w))


def test_the_projection_of_the_own_image_is_itself(model):
    sample = model.sample([5])
    torch.testing.assert_close(
        model.project(sample.w[0], sample.image), model.synthesize(sample.w), atol=1e-5, rtol=1e-5
    )


def test_a_relative_offset_vanishes_at_the_original_and_only_there(model):
    images = model.sample([5, 6]).image
    assert model.offset(images, images).abs().max() == 0
    assert model.offset(images, images.flip(0)).abs().max() > 0
    assert model.offset(images, None).abs().max() > 0


def test_an_image_of_the_gan_is_encoded_as_its_sample(model):
    sample = model.sample([5, 6])
    found = model.invert(sample.image)
    for name in ("code", "view", "light", "image"):
        torch.testing.assert_close(getattr(found, name), getattr(sample, name))
    mean = model.generator.w_avg
    own = model.images(mean[None])
    torch.testing.assert_close(model.invert(own).w[0], mean)  # the mean's image is no step from it
    assert (found.w - mean).abs().max() > 0 and found.seed.tolist() == [-1, -1]


def test_a_way_between_two_latents_has_both_ends(model):
    a, b = model.sample([5, 6]).w
    way = model.interpolate(a, b, 3)
    torch.testing.assert_close(way.w, torch.stack((a, (a + b) / 2, b)))
    torch.testing.assert_close(way.code[1], model.image_encoder(model.images(way.w[1:2]))[0])
    with pytest.raises(ConfigError, match="n is 1, expected 2 or more"):
        model.interpolate(a, b, 1)


def test_refining_one_image(model):
    image = model.sample([5]).image[0]
    found = model.refine(image, torch.ones(16, 16, dtype=torch.bool), iterations=2)
    assert type(found).__name__ == "Instances" and found.sample(0).code.shape == (1, 512)
    with pytest.raises(ConfigError, match=r"image has the shape \(3, 8, 8\), expected \(3, 16, 16\) or more"):
        model.refine(image[:, ::2, ::2])
    with pytest.raises(
        ConfigError, match=r"image has the shape \(3, 32, 16\), expected \(3, 16, 16\) or more"
    ):
        model.refine(image.repeat(1, 2, 1))
    with pytest.raises(ConfigError, match="refine.iterations is 0"):
        model.refine(image, iterations=0)


def test_refining_an_image_of_more_pixels_sees_them_all(model, monkeypatch):
    large, targets, plain = torch.rand(3, 32, 32) * 2 - 1, [], refine.new_target

    def new_target(*arguments):
        targets.append(plain(*arguments))
        return targets[-1]

    monkeypatch.setattr(refine, "new_target", new_target)
    found = model.refine(large, torch.ones(32, 32, dtype=torch.bool), iterations=2)
    torch.testing.assert_close(targets[0].colors[0], (large.movedim(0, -1) + 1) / 2)
    assert torch.equal(found.sample(0).image, resize(large[None], 16))  # what E_I, E_v and E_l see


def test_a_surface_reads_nothing_back_from_the_device(model):
    there = deepcopy(model).to("meta")  # holds no values: reading one, which would wait for a GPU, raises
    code, points = torch.zeros(1, PRESET.n_code, device="meta"), torch.zeros(1, 7, 3, device="meta")
    sdf, feature = there.surface(code).sdf(points)
    assert sdf.device.type == feature.device.type == "meta"


def test_mesh_lies_on_the_surface_with_its_normals_and_material(model):
    code = model.sample([2]).code[0]
    mesh = model.mesh(code, 64)
    points = torch.from_numpy(mesh.vertices)[None].requires_grad_()
    sdf, _ = model.surface(code[None]).sdf(points)
    (gradient,) = torch.autograd.grad(sdf.sum(), points)
    assert sdf.abs().max() < 2e-3
    cosine = (torch.nn.functional.normalize(gradient[0], dim=-1) * torch.from_numpy(mesh.normals)).sum(-1)
    assert cosine.min() > 0.98
    assert mesh.albedo.shape == (len(mesh.vertices), 3) and 0 <= mesh.albedo.min() and mesh.albedo.max() <= 1
    assert 4 <= mesh.shininess.min() and mesh.shininess.max() <= 100


@pytest.mark.parametrize("resolution", [24, 64])
def test_vertices_are_laid_on_the_surface_as_by_the_readable_twin(resolution):
    model, cell = load("demo"), cell_size(resolution)
    code = model.sample(3).code[0]
    fast = model.mesh(code, resolution)
    readable = model.evaluate_material(model.geometry(code, resolution), code)
    assert np.array_equal(fast.faces, readable.faces)
    assert np.linalg.norm(fast.vertices - readable.vertices, axis=-1).max() < 0.1 * cell
    for mesh, allowed in ((readable, 0.05), (fast, 0.01)):
        sdf, _, gradient = model.surface(code[None]).sdf_gradient(torch.from_numpy(mesh.vertices)[None])
        assert (sdf / gradient.norm(dim=-1, keepdim=True)).abs().max() < allowed * cell
    there = model.evaluate_material(fast, code)  # where its vertices are now
    for name in ("albedo", "specular"):
        np.testing.assert_allclose(getattr(fast, name), getattr(there, name), atol=1e-3)
    np.testing.assert_allclose(fast.shininess, there.shininess, rtol=1e-3, atol=0.05)
    normals = torch.nn.functional.normalize(gradient[0], dim=-1).numpy()
    np.testing.assert_allclose(fast.normals, normals, atol=0.02)


def test_both_renderers_agree(model):
    code = model.sample([2]).code[0]
    model.log_sharpness.fill_(6.0)
    views, lights = torch.zeros(2, 6), torch.tensor([[0.4, 0.6, 0.5, 0.2, 0.0], [0.3, 0.7, -0.8, 0.4, 0.0]])
    views[1, 1] = 0.4
    views, lights = Cameras.from_view(views), Lights.from_vector(lights)
    march = VolumeRenderer(SamplingConfig(36, 36))
    mesh, neus = (model.render(code, views, lights, 32, renderer) for renderer in (None, march))
    both = mesh.mask & neus.mask
    assert both.sum() / (mesh.mask | neus.mask).sum() > 0.95
    assert (mesh.depth - neus.depth)[both].abs().median() < 0.005
    assert (mesh.normals * neus.normals).sum(-1)[both].median() > 0.99
    assert (mesh.colors - neus.colors).abs().mean(-1)[both[:, None].expand(-1, 2, -1, -1)].median() < 0.02
    for out in (mesh, neus):  # the shading identity of the dataset format
        shaded = out.albedo[:, None] * out.diffuse_shading[..., None] + out.specular_shading[..., None]
        inside = out.mask[:, None].expand(-1, 2, -1, -1)
        torch.testing.assert_close(shaded.clamp(0, 1)[inside], out.colors[inside], atol=1e-5, rtol=0)
    single = model.render(code, views[0], lights[0], 32)  # one camera and light count as batches of one
    assert torch.equal(single.colors[0, 0], mesh.colors[0, 0])
    assert torch.equal(mesh[1].depth, mesh.depth[1]) and len(mesh) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": torch.zeros(6)}, "render takes Cameras and Lights, got Tensor and Lights"),
        ({"code": torch.zeros(3)}, r"code has the shape \(3,\), expected \(.*,\)"),
        (
            {"lights": Lights.from_vector(torch.zeros(3, 2, 5))},
            r"do not fit, expected cameras \[v\] and lights",
        ),
        ({"size": 0}, "size is 0, expected a number of pixels"),
        ({"renderer": "neus"}, r"renderer is 'neus', expected MeshRenderer\(\) or VolumeRenderer\(\), say"),
    ],
)
def test_what_render_would_misread_is_refused(model, change, message):
    one = model.sample(2)
    given = {"code": one.code[0], "cameras": one.cameras, "lights": one.lights, "size": 8}
    given |= {"renderer": None} | change
    with pytest.raises(ConfigError, match=message):
        model._check_render(**given)


def test_a_mesh_is_made_ready_once_for_any_number_of_renders(model, monkeypatch):
    prepared = []
    real = renderers.prepare
    monkeypatch.setattr(renderers, "prepare", lambda *given: prepared.append(given) or real(*given))
    one = model.sample([4])
    renderer = MeshRenderer(model.mesh(one.code[0], 32))
    for _ in range(2):
        found = model.render(one.code[0], one.cameras, one.lights, 24, renderer)
        fresh = model.render(one.code[0], one.cameras, one.lights, 24, MeshRenderer(resolution=32))
        assert torch.equal(found.colors, fresh.colors) and torch.equal(found.depth, fresh.depth)
    assert len(prepared) == 1


def test_what_sample_returns_render_takes(model):
    samples = model.sample([2, 5])
    assert samples.seed.tolist() == [2, 5] and len(samples) == 2
    one = samples[1]
    ours = model.render(one.code, one.cameras, one.lights, 16)
    batch = model.render(samples.code[1], samples.cameras[1:], samples.lights[1:], 16)
    torch.testing.assert_close(ours.colors, batch.colors, atol=1e-5, rtol=0)
    again = model.sample(5)
    torch.testing.assert_close(again.code[0], one.code, atol=1e-5, rtol=1e-5)
    assert repr(model) == "LiftedGAN('tiny', 16 pixels)"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.0), (torch.float16, 2e-3)])
def test_file_round_trip(model, tmp_path, dtype, tolerance):
    model.save(tmp_path / "model.safetensors", dtype)
    again = load(tmp_path)
    assert again.config == model.config
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, atol=tolerance, rtol=tolerance)


def test_bad_files_are_refused_in_words(model, tmp_path):
    with pytest.raises(CheckpointError, match='there is no model file .*; "demo" is the bundled model'):
        load(tmp_path / "none.safetensors")
    gan = tiny_gan()
    save_gan(tmp_path / "gan.safetensors", gan.generator, gan.discriminator)
    with pytest.raises(
        CheckpointError,
        match="has format .lift3d.gan/2., expected .lift3d.lifted/2.: `lift3d pretrain",
    ):
        load(tmp_path / "gan.safetensors")
    model.save(tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptFile, match="truncated"):
        load(tmp_path / "cut.safetensors")


def test_resize_averages(model):
    image = torch.rand(1, 3, 32, 32)
    small = resize(image, 8)
    assert small.shape == (1, 3, 8, 8)
    assert abs(float(small.mean() - image.mean())) < 0.02
    assert resize(image, 32) is image


def test_a_mirrored_image_is_one_of_the_mirrored_view_and_light() -> None:
    radii = torch.tensor([0.4, 0.7, 0.5])
    sdf = lambda x: ellipsoid_sdf(x, radii)[:, 0] + 0.1 * x[:, 1] * x[:, 2]  # noqa: E731
    mesh = project_to_surface(extract_mesh(sdf, 48), surface_of(sdf), 0.02)
    n = len(mesh.vertices)
    mesh = replace(
        mesh, albedo=np.full((n, 3), 0.6, np.float32), specular=np.full(n, 0.3, np.float32),
        shininess=np.full(n, 20.0, np.float32),
    )  # fmt: skip
    view = torch.tensor([[0.2, 0.4, 0.1, 0.05, -0.03, 0.02]])
    light = torch.tensor([[0.3, 0.6, 0.7, -0.4, 0.0]])
    white = (1.0, 1.0, 1.0)
    images = [
        render_mesh(mesh, Cameras.from_view(v), Lights.from_vector(e), 48, white).colors[0, 0]
        for v, e in ((view, light), (cameras.mirrored(view), lights.mirrored(light)))
    ]
    wrong = render_mesh(mesh, Cameras.from_view(cameras.mirrored(view)), Lights.from_vector(light), 48, white)
    assert (images[0].flip(1) - images[1]).abs().mean() < 2e-3
    assert (images[0].flip(1) - wrong.colors[0, 0]).abs().mean() > 2e-2


class OwnGenerator(torch.nn.Module):
    """The least that lifting asks of a GAN."""

    z_dim, w_dim, h_dim, resolution = 4, 4, 4, 16

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(4, 3 * 16 * 16))
        self.register_buffer("w_avg", torch.zeros(4))

    def to_w(self, z: torch.Tensor) -> torch.Tensor:
        return 2 * z

    def to_image(self, w: torch.Tensor) -> torch.Tensor:
        return torch.tanh(w @ self.weight).unflatten(1, (3, 16, 16))

    def offset(self, step: torch.Tensor) -> torch.Tensor:
        return step

    def styles(self, w: torch.Tensor) -> torch.Tensor:
        return w


def test_any_module_with_the_members_of_liftable_is_lifted(tmp_path: Path) -> None:
    generator = OwnGenerator()
    assert isinstance(generator, Liftable)
    model = LiftedGAN(PRESET, generator).eval()
    samples = model.sample([1, 2], truncation=0.5)
    assert torch.allclose(samples.w, samples.z) and samples.image.shape == (2, 3, 16, 16)
    step = model.gan_encoder(samples.image) - model.gan_encoder(samples.image.flip(3))
    assert torch.equal(model.offset(samples.image, samples.image.flip(3)), step)
    assert model.project(samples.w[0], samples.image).shape == (2, 3, 16, 16)
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors", generator)
    assert torch.equal(again.sample([1, 2], truncation=0.5).code, samples.code)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"format": "lift3d.lifted/1"},
            "is of an earlier version of lift3d .format lift3d.lifted/1.: `lift3d pre",
        ),
        ({"format": "lift3d.lifted/x"}, "has format 'lift3d.lifted/x', expected 'lift3d.lifted/2'"),
        ({"format": ["lift3d.lifted/1"]}, "has format .'lift3d.lifted/1'., expected"),
        ({"preset": None}, "is damaged: it does not say what its networks are"),
        ({"preset": {}}, "is damaged: it does not say what its networks are"),
        ({"generator": 3}, "is damaged: it does not say what its networks are"),
        ({"preset": "{"}, "does not describe a model: preset is not JSON"),
        ({"preset": "[" * 100_000}, "does not describe a model: preset is not JSON"),
        ({"preset": "3"}, "does not describe a model: preset is 3, expected a table of Preset"),
        ({"n_code": 2**63 - 1}, "n_code is 9223372036854775807, expected a number from 1 to 8,192"),
        ({"n_code": 10**400}, "n_code is 10{59}... .401 characters., expected a number from 1 to 8,192"),
        ({"truncation": 10**400}, "truncation is inf, expected a number from 0 to 1"),
        ({"n_code": 8192, "shape": {"n_hidden": 4096, "n_layers": 64}}, "does not fit the network: "),
        ({"size": 1024}, "joint.size is 16, expected size, 1024"),
        ({"name": "x" * 1000, "nonsense": 1}, "preset: unknown setting 'nonsense', known are name"),
    ],
)
def test_odd_settings_in_a_model_file_are_one_sentence(model, tmp_path, change, sentence):
    model.save(tmp_path / "model.safetensors")
    about, tensors = read_tensors(tmp_path / "model.safetensors")
    whole = change.keys() <= about.keys()
    about |= change if whole else {"preset": json.dumps(json.loads(about["preset"]) | change)}
    write_tensors(tmp_path / "model.safetensors", tensors, about)
    with pytest.raises(Lift3DError, match=f"model.safetensors {sentence}" if whole else sentence) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
