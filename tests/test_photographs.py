"""Photographs: every kind of file gives the same picture; frames put objects where the GAN's are."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lift3d import photographs as module
from lift3d.config.presets import PRESETS
from lift3d.errors import ConfigError, CorruptFile
from lift3d.instance import load
from lift3d.model import LiftedGAN
from lift3d.photographs import Kind, cropped, find_face, kind_of, read_image, read_photograph

GRAY = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (20, 1))  # 20 x 30 pixels


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LiftedGAN:
    return load(tiny_model)


@pytest.fixture(scope="module")
def kind() -> Kind:
    return Kind((0.5, 0.5, 0.5), (0.5, 0.45, 0.4), torch.zeros(512), torch.ones(512), 1.0)


def disk(size: int = 64, x: float = 20, y: float = 30, radius: float = 9) -> np.ndarray:
    """A mask, 255 inside."""
    rows, columns = np.mgrid[:size, :size] + 0.5
    return np.where((columns - x) ** 2 + (rows - y) ** 2 < radius**2, 255, 0).astype(np.uint8)


def test_every_mode_is_read_as_the_same_picture(tmp_path: Path) -> None:
    plain = Image.fromarray(GRAY)
    files = {
        "gray.png": plain,
        "color.png": plain.convert("RGB"),
        "palette.gif": plain,
        "sixteen.png": Image.fromarray(GRAY.astype(np.uint16) * 257),
        "float.tiff": Image.fromarray(GRAY.astype(np.float32) / GRAY.max()),
        "cmyk.tiff": plain.convert("RGB").convert("CMYK"),
        "two-bit.png": Image.fromarray(GRAY > 100),
    }
    for name, picture in files.items():
        picture.save(tmp_path / name)
        colors, alpha = read_image(tmp_path / name)
        assert alpha is None and colors.shape == (20, 30, 3) and colors.dtype == np.uint8
        expected = {"two-bit.png": (GRAY > 100) * 255, "float.tiff": GRAY * (255 / GRAY.max())}.get(
            name, GRAY
        )
        assert np.abs(colors - expected[..., None].astype(float)).max() <= 1, name


def test_transparency_rotation_and_first_frames(tmp_path: Path) -> None:
    opacity = np.zeros_like(GRAY)
    opacity[:, :20] = 255
    Image.fromarray(np.stack([GRAY, GRAY, GRAY, opacity], -1)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[1], opacity)
    turned = Image.fromarray(GRAY)
    exif = turned.getexif()
    exif[0x0112] = 6  # the camera was held on its side
    turned.save(tmp_path / "b.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "b.png")[0][..., 0], np.rot90(GRAY, -1))
    frames = [Image.fromarray(GRAY), Image.fromarray(255 - GRAY)]
    frames[0].save(tmp_path / "c.gif", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_image(tmp_path / "c.gif")[0][..., 0], GRAY)


def test_what_cannot_be_read_is_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.png"
    with pytest.raises(ConfigError, match="is a folder, expected one image file"):
        read_image(tmp_path)
    with pytest.raises(ConfigError, match="does not exist"):
        read_image(path)
    path.write_text("no image")
    with pytest.raises(CorruptFile, match="is truncated or no image"):
        read_image(path)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "t.jpg")
    data = (tmp_path / "t.jpg").read_bytes()
    (tmp_path / "t.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptFile, match="t.jpg is truncated or no image"):
        read_image(tmp_path / "t.jpg")
    Image.fromarray(GRAY[:1, :1]).save(path)
    with pytest.raises(ConfigError, match="has 1 x 1 pixels, expected 16 a side or more"):
        read_image(path)
    Image.new("1", (10_000, 10_000)).save(path)  # a few kilobytes
    with pytest.raises(ConfigError, match="has 10000 x 10000 pixels, expected 64 million at most"):
        read_image(path)
    monkeypatch.setattr(module, "MAX_PIXELS", 10**9)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # Pillow's own guard
    with pytest.raises(CorruptFile, match="is truncated or no image: .*decompression bomb"):
        read_image(path)


def test_a_frame_is_cut_as_a_naive_loop_would() -> None:
    picture = np.arange(30, dtype=np.uint8).reshape(5, 6)
    found = cropped(picture, (-2, 3, 4), 4)
    expected = [[picture[min(y, 4), max(x, 0)] for x in range(-2, 2)] for y in range(3, 7)]
    assert np.array_equal(found, expected)
    outside = cropped(picture, (-2, 3, 4), 4, outside=99)
    assert (outside[:, :2] == 99).all() and (outside[2:] == 99).all() and outside[0, 2] == picture[3, 0]


def test_an_object_lands_where_the_gans_own_are(model: LiftedGAN, kind: Kind, tmp_path: Path) -> None:
    mask = disk()
    colors = np.stack([mask // 2, mask // 3, mask // 4], -1)
    Image.fromarray(np.dstack([colors + 10, mask])).save(tmp_path / "a.png")
    found = read_photograph(tmp_path / "a.png", model, kind=kind)
    y, x = np.nonzero(found.mask.numpy())
    size = model.config.size
    assert x.mean() + 0.5 == pytest.approx(size / 2, abs=1.5) and y.mean() + 0.5 == pytest.approx(
        size / 2, abs=1.5
    )
    assert len(x) ** 0.5 / size == pytest.approx(0.5, abs=0.03)
    assert found.notes == ()
    assert (found.image[:, ~found.mask].mean() > 0.95) and found.image.shape == (3, size, size)  # on white
    inside = found.image[:, found.mask].median(1).values
    np.testing.assert_allclose((inside + 1) / 2 * 255, [137, 95, 73], atol=2)
    Image.fromarray(colors + 10).save(tmp_path / "b.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    again = read_photograph(tmp_path / "b.png", model, masks=tmp_path / "mask.png", kind=kind)
    assert torch.equal(again.image, found.image) and torch.equal(again.mask, found.mask)
    Image.fromarray(mask[:32]).save(tmp_path / "mask.png")
    with pytest.raises(ConfigError, match="has 64 x 32 pixels, its picture 64 x 64: draw the mask over"):
        read_photograph(tmp_path / "b.png", model, masks=tmp_path / "mask.png", kind=kind)


def test_a_picture_of_one_color_is_refused(model: LiftedGAN, kind: Kind, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "x.png")
    with pytest.raises(ConfigError, match="shows nothing: all its pixels have the same color"):
        read_photograph(tmp_path / "x.png", model, kind=kind)


def test_a_box_is_the_frame(model: LiftedGAN, kind: Kind, tmp_path: Path) -> None:
    mask = disk(256, 80, 120, 36)
    picture = np.where(mask[..., None] > 0, np.uint8([200, 120, 90]), np.uint8(255))
    Image.fromarray(picture).save(tmp_path / "a.png")
    found = read_photograph(tmp_path / "a.png", model, (32, 72, 128, 168), kind=kind)
    assert found.frame == (32, 72, 96) and found.notes == ()  # on white already: nothing to cut out
    assert found.mask.float().mean() == pytest.approx((mask[72:168, 32:128] > 0).mean(), abs=0.03)
    wide = read_photograph(tmp_path / "a.png", model, (0, 80, 160, 160), kind=kind)
    assert wide.frame == (0, 40, 160)
    for box in ((8, 18, 8, 42), (300, 0, 320, 20)):
        with pytest.raises(ConfigError, match="expected left,top,right,bottom in a picture of 256 x 256"):
            read_photograph(tmp_path / "a.png", model, box, kind=kind)
    with pytest.raises(ConfigError, match="shows no object in its frame: give --box around it, or --masks"):
        read_photograph(tmp_path / "a.png", model, (160, 0, 240, 40), "none", kind)


def test_a_face_lands_where_the_gans_own_are(model: LiftedGAN, kind: Kind, tmp_path: Path) -> None:
    astronaut = pytest.importorskip("skimage.data").astronaut()
    x, y, width = find_face(astronaut)
    assert (x, y) == pytest.approx((222, 115), abs=12) and 80 < width < 130
    small = find_face(astronaut[::2, ::2])
    assert small == pytest.approx((x / 2, y / 2, width / 2), abs=8)
    Image.fromarray(astronaut).save(tmp_path / "a.png")
    found = read_photograph(tmp_path / "a.png", model, kind=kind)
    left, top, side = found.frame
    assert ((x - left) / side, (y - top) / side, width / side) == pytest.approx(kind.face)
    assert "cut out by a segmenter" in found.notes[0]
    assert found.mask[28, 32] and not found.mask[0, 0]
    sky = np.random.default_rng(0).integers(0, 255, (64, 80, 3), np.uint8)
    Image.fromarray(sky).save(tmp_path / "sky.png")
    none = read_photograph(tmp_path / "sky.png", model, masks="none", kind=kind)
    assert (
        none.frame == (8, 0, 64) and "no face was found: the middle of the picture is taken" in none.notes[0]
    )


def test_without_masks_all_of_the_frame_counts(model: LiftedGAN, kind: Kind, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    joint = replace(PRESETS["tiny"].joint, latent=0, calibrate=0, distill=0, lean=0, realign=0)
    plain = replace(PRESETS["tiny"], background=None, masks="none", n_unlabeled=0, joint=joint)
    other = load(model.source)
    other.config = plain
    found = read_photograph(tmp_path / "a.png", other, kind=replace(kind, face=None))
    assert found.mask.all() and found.notes == ()


def test_what_a_models_own_images_are_like(model: LiftedGAN) -> None:
    kind = kind_of(model, 6)
    samples = model.sample(range(3_000_000, 3_000_006))
    torch.testing.assert_close(kind.code, samples.code.mean(0))
    assert 0 < kind.object[2] <= 1
    assert kind.farthest == pytest.approx(
        ((samples.code - kind.code) / samples.code.std(0)).square().mean(1).sqrt().max().item(), rel=1e-3
    )
