"""Distillation: lights are solved for, mirrored images keep their labels, and every term trains what it
should.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from interrupted import Stop, StopAfter
from PIL import Image
from tiny_gan import PRESET, tiny_gan

from lift3d.config.schema import FieldConfig
from lift3d.errors import ConfigError, CorruptFile
from lift3d.masks.sources import mask_source
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver
from lift3d.scene.cameras import mirrored
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shade
from lift3d.train import distill
from lift3d.train.calibrate import clean_images
from lift3d.train.data import Images, draw_samples, open_photographs
from lift3d.train.joint import pretrain

SIZE = PRESET.size
LIGHT = torch.tensor([[0.4, 0.6, 0.5, -0.3, 0.0], [0.7, 0.35, -0.8, 0.6, 0.0]])


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    fields = FieldConfig(16, 2, 2, beta=5.0), FieldConfig(16, 2, 2)
    preset = replace(PRESET, shape=fields[0], material=fields[1])
    return LiftedGAN(preset, tiny_gan().generator).requires_grad_(False)


class Distance(torch.nn.Module):
    """Mean absolute difference of images."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().mean((1, 2, 3))


@pytest.fixture(scope="module")
def gallery(model) -> distill.Gallery:
    samples = draw_samples(model, 6, 0)
    rng = torch.Generator().manual_seed(0)
    return distill.gallery(samples, distill.read(model, samples.images, rng, SilentObserver()))


def shaded(light: torch.Tensor, specular: float = 0.0) -> tuple:
    """Random points that face the camera, under the lights: colors and what ``solve_lights`` is told."""
    rng = torch.Generator().manual_seed(1)
    normal = normalize(torch.randn(2, 400, 3, generator=rng) + torch.tensor([0.0, 0.0, 1.0]))
    albedo = 0.2 + 0.6 * torch.rand(2, 400, 3, generator=rng)
    one = torch.ones(2, 400, 1)
    material = Material(albedo, specular * one, 20.0 * one)
    to_camera = torch.tensor([0.0, 0.0, 1.0]).expand_as(normal)
    colors = shade(normal, to_camera, material, Lights.from_vector(light)[:, None])
    return colors, material, normal, to_camera, torch.ones(2, 400, dtype=torch.bool)


def test_lights_are_found_from_brightness(monkeypatch):
    monkeypatch.setattr(distill, "LIGHT_TIE", 1e-6)
    start = torch.tensor([0.55, 0.5, 0.0, 0.0, 0.0]).expand(2, 5)
    exposure = LIGHT[:, :1] + 0.75 * LIGHT[:, 1:2]
    level = (start[:, :1] + 0.75 * start[:, 1:2]) / exposure
    found = distill.solve_lights(*shaded(LIGHT), start, 0.75)
    expected = torch.cat((LIGHT[:, :2] * level, LIGHT[:, 2:]), 1)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


def test_lights_stay_where_nothing_is_seen():
    *told, counts = shaded(LIGHT)
    start = LIGHT.flip(0)
    found = distill.solve_lights(*told, torch.zeros_like(counts), start, 0.75)
    torch.testing.assert_close(found, start, atol=1e-5, rtol=0)


def test_the_true_light_is_a_fixed_point_with_highlights():
    found = distill.solve_lights(*shaded(LIGHT, specular=0.3), LIGHT, 0.75)
    torch.testing.assert_close(found, LIGHT, atol=1e-4, rtol=0)


def test_mirrored_images_keep_their_labels(model, gallery):
    batch = distill.draw([gallery], 40, torch.Generator().manual_seed(2), model.device)
    flips = 0
    for image, mask, inside, outline, view, light, points, sdf in zip(
        batch.images, batch.masks, batch.inside, batch.outline, batch.views, batch.lights,
        batch.anchors.points, batch.anchors.sdf,
    ):  # fmt: skip
        i = (gallery.views[:, 0] - view[0]).abs().argmin()  # pitch is the same in a mirror
        flip = view[1] != gallery.views[i, 1]
        flips += int(flip)
        turn = (lambda x: x.flip(-1)) if flip else (lambda x: x)
        assert torch.equal(image, turn(gallery.images[i]))
        assert torch.equal(mask, turn(gallery.masks[i])) and torch.equal(inside, turn(gallery.inside[i]))
        assert torch.equal(outline, turn(gallery.outline[i]))
        assert torch.equal(view, mirrored(gallery.views[i]) if flip else gallery.views[i])
        assert light[2] == (-gallery.lights[i, 2] if flip else gallery.lights[i, 2])
        k = (gallery.anchors.sdf[i][:, None] == sdf).int().argmax(0)
        side = torch.tensor([-1.0 if flip else 1.0, 1.0, 1.0])
        assert torch.equal(points, gallery.anchors.points[i, k] * side)
    assert 10 < flips < 30


def test_shape_learns_from_shading_and_material_from_colors(model, gallery):
    def trained(term: str) -> tuple[bool, bool, bool]:
        """Whether F_s, F_m and E_I get a gradient from a term."""
        parts = model.shape, model.material, model.image_encoder
        for part in parts:
            part.requires_grad_(True)
        losses = distill.distill_loss(model, [gallery], Distance(), torch.Generator().manual_seed(3))
        losses[term].backward()
        found = []
        for part in parts:
            found.append(any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters()))
            part.requires_grad_(False)
            part.zero_grad()
        return tuple(found)

    # codes reach an untrained field through biases that are still zero: E_I follows later
    assert trained("shape")[:2] == trained("outline")[:2] == trained("eikonal")[:2] == (True, False)
    for term in ("l1", "smooth", "held", "perceptual"):
        assert trained(term)[:2] == (False, True), term


def test_nothing_has_changed_at_first(model, gallery):
    found = distill.distill_loss(model, [gallery], Distance(), torch.Generator().manual_seed(4))
    assert found["joint"] < 1e-6
    assert found["total"].item() == pytest.approx(sum(v.item() for k, v in found.items() if k != "total"))


def test_photographs_of_a_folder_or_an_array(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 2 * SIZE, 2 * SIZE, 3), np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(pixels):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.png")
    np.save(tmp_path / "pictures.npy", pixels)
    source = mask_source(PRESET)
    found = [
        open_photographs(tmp_path / name, tmp_path, SIZE, source, SilentObserver())
        for name in ("pictures", "pictures.npy")
    ]
    for photographs in found:
        assert photographs.images.shape == (3, 3, SIZE, SIZE) and photographs.masks.shape == (3, SIZE, SIZE)
    mean = lambda x: x.images.float().mean((2, 3))  # noqa: E731
    torch.testing.assert_close(mean(found[0]), mean(found[1]), atol=1.5, rtol=0)
    np.save(tmp_path / "gray.npy", pixels[..., 0])
    with pytest.raises(ConfigError, match=r"gray.npy holds uint8 \(3, 32, 32\), expected bytes \[n, side"):
        open_photographs(tmp_path / "gray.npy", tmp_path, SIZE, source, SilentObserver())
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CorruptFile, match="bad.npy is truncated or no .npy file"):
        open_photographs(tmp_path / "bad.npy", tmp_path, SIZE, source, SilentObserver())


@pytest.mark.parametrize(("n", "expected"), [(4, [0, 1, 2, 3]), (12, [0, 2, 4, 6, 8, 11])])
def test_encoders_learn_from_as_many_photographs_as_samples(model, n, expected):
    samples = draw_samples(model, 6, 0)
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, SIZE, SIZE)
    photographs = Images(images, images[:, 0] > 0)
    found = clean_images(samples, photographs)
    assert torch.equal(found.images[:6], samples.images) and torch.equal(found.masks[:6], samples.masks)
    assert found.images[6:, 0, 0, 0].tolist() == expected and len(found.masks) == 6 + len(expected)
    assert clean_images(samples, None) is samples


def test_photographs_without_distillation_are_refused(tmp_path):
    preset = replace(PRESET, joint=replace(PRESET.joint, distill=0))
    with pytest.raises(ConfigError, match="photographs are for distillation, .* set joint.distill"):
        pretrain(preset, tiny_gan(), tmp_path / "run", photographs=tmp_path)


def test_a_run_with_photographs_resumes_bit_for_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    np.save(tmp_path / "b.npy", pixels[:4])
    preset = replace(PRESET, joint=replace(PRESET.joint, n_stages=1, distill=30))
    options = {"photographs": tmp_path / "a.npy", "checkpoint_seconds": 0.0}
    whole = pretrain(preset, tiny_gan(), tmp_path / "whole", **options)
    with pytest.raises(Stop):
        pretrain(preset, tiny_gan(), tmp_path / "again", StopAfter(6), **options)
    with pytest.raises(ConfigError, match="other settings .photographs."):
        pretrain(preset, tiny_gan(), tmp_path / "again", resume=True, photographs=tmp_path / "b.npy")
    resumed = pretrain(preset, tiny_gan(), tmp_path / "again", resume=True, **options)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
