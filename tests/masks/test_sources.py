"""Mask sources: which one a run renders, files, black bars, and GrabCut on heads whose masks are known."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lift3d.config.presets import AFHQ_CAT, CELEBA_HQ, DEMO, LSUN_CAR
from lift3d.config.schema import LossWeights
from lift3d.errors import BackendUnavailable, ConfigError, CorruptFile
from lift3d.masks.background import background_masks
from lift3d.masks.grabcut import get_segmenter
from lift3d.masks.sources import mask_source, with_masks
from lift3d.scene.batch import stack
from lift3d.scene.images import colors_to_images, to_bytes
from lift3d.synthetic.render import render_head

FILES = replace(CELEBA_HQ, masks="files", mask_reach=0.0)
IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).view(2, 3, 8, 8)
NAMES = ("7", "stage-1/7-0")


def draw(path: Path, pixels: np.ndarray, mode: str = "L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def half(size: int) -> np.ndarray:
    """Object on the left."""
    return np.where(np.arange(size) < size // 2, 255, 0).astype(np.uint8) * np.ones((size, 1), np.uint8)


def test_the_choice_decides_on_kind_and_loss() -> None:
    for preset, choice, kind, weight in (
        (DEMO, None, "background", 0.2),
        (DEMO, "none", "none", 0.0),
        (CELEBA_HQ, None, "auto", 0.2),
        (FILES, None, "auto", 0.2),
        (CELEBA_HQ, "run:segment", "files", 0.2),
        (CELEBA_HQ, "auto", "auto", 0.2),
        (CELEBA_HQ, "some/folder", "files", 0.2),
        (AFHQ_CAT, "none", "none", 0.0),
        (AFHQ_CAT, Path("folder"), "files", 0.2),
        (AFHQ_CAT, "auto", "auto", 0.2),
        (replace(DEMO, weights=LossWeights(mask=0.0)), None, "background", 0.0),
    ):
        chosen = with_masks(preset, choice)
        assert (chosen.masks, chosen.weights.mask) == (kind, weight)
        assert replace(chosen, masks=preset.masks, weights=preset.weights) == preset
    half_as_much = replace(CELEBA_HQ, weights=replace(CELEBA_HQ.weights, mask=0.1))
    assert with_masks(half_as_much, "auto").weights.mask == 0.1


def test_none_and_background() -> None:
    assert mask_source(replace(AFHQ_CAT, masks="none"))(IMAGES, NAMES).all()
    assert torch.equal(mask_source(DEMO)(IMAGES, NAMES), background_masks(IMAGES, 1.0))


def test_black_bars_are_never_object() -> None:
    masks = mask_source(replace(LSUN_CAR, masks="none"))(
        torch.zeros(1, 3, 512, 512, dtype=torch.uint8), ("1",)
    )
    assert torch.equal(
        masks[0].any(1).nonzero()[[0, -1], 0], torch.tensor([64, 447])
    )  # 512 x 384 in 512 x 512
    assert masks[0, 64:448].all()


def test_files_by_name_averaged_where_larger(tmp_path: Path) -> None:
    draw(tmp_path / "7.png", half(8), "RGB")
    large = half(24)
    large[:3, :2] = 0  # 6 of the 9 pixels of the first one
    draw(tmp_path / "stage-1" / "7-0.png", large, "P")
    masks = mask_source(FILES, tmp_path)(IMAGES, NAMES).numpy()
    expected = np.stack([half(8) > 0] * 2)
    expected[1, 0, 0] = False
    assert np.array_equal(masks, expected)


def test_missing_files_are_asked_for_and_their_images_written(tmp_path: Path) -> None:
    draw(tmp_path / "masks" / "7.png", half(8))
    source = mask_source(FILES, tmp_path / "masks", tmp_path / "to-mask")
    sentence = "1 of 2 masks are missing, the first is .*masks/stage-1/7-0.png: draw masks .*--resume"
    with pytest.raises(ConfigError, match=sentence):
        source(IMAGES, NAMES)
    wanted = [path for path in (tmp_path / "to-mask").rglob("*") if path.is_file()]
    assert wanted == [tmp_path / "to-mask" / "stage-1" / "7-0.png"]
    with Image.open(wanted[0]) as image:
        assert np.array_equal(np.asarray(image), IMAGES[1].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("folder", [None, "auti"])
def test_a_folder_that_is_none(folder: str | None) -> None:
    with pytest.raises(
        ConfigError, match=f"--masks is '{folder}', expected none, auto, run:COMMAND or a folder"
    ):
        mask_source(FILES, folder)


@pytest.mark.parametrize(
    ("pixels", "sentence"),
    [
        (np.full((8, 6), 255, np.uint8), "7.png has 6 x 8 pixels, expected 8 x 8 or a multiple of it"),
        (np.full((12, 12), 255, np.uint8), "7.png has 12 x 12 pixels, expected 8 x 8"),
        (np.ones((8, 8), np.uint8), "7.png has no pixel brighter than 1, expected 255 inside the object"),
        (np.full((8, 8), 60000, np.uint16), "7.png has pixels of kind I;16, expected a mask of 8 bits"),
    ],
)
def test_unusable_masks(tmp_path: Path, pixels: np.ndarray, sentence: str) -> None:
    Image.fromarray(pixels).save(tmp_path / "7.png")
    with pytest.raises(ConfigError, match=sentence):
        mask_source(FILES, tmp_path)(IMAGES[:1], ("7",))


@pytest.mark.parametrize("cut", [0, 5, 48])
def test_files_that_are_no_images(tmp_path: Path, cut: int) -> None:
    draw(tmp_path / "7.png", half(8))
    (tmp_path / "7.png").write_bytes((tmp_path / "7.png").read_bytes()[:cut])
    with pytest.raises(CorruptFile, match="7.png is truncated or no image"):
        mask_source(FILES, tmp_path)(IMAGES[:1], ("7",))


def test_grabcut_finds_heads_on_white_and_before_colors() -> None:
    renders = stack([render_head("train", head, 128, n_renders=1)[0] for head in range(6)])
    truth = renders.maps.mask
    white = to_bytes(colors_to_images(renders.image))
    blobs = torch.nn.functional.interpolate(torch.rand(6, 3, 9, 9), (128, 128), mode="bilinear")
    busy = torch.where(truth[:, None], white, (blobs * 255).to(torch.uint8))
    source = mask_source(replace(DEMO, masks="auto"))
    for images in (white, busy):
        masks = source(images, [""] * 6)
        iou = (masks & truth).sum((1, 2)) / (masks | truth).sum((1, 2))
        assert iou.mean() > 0.96 and iou.min() > 0.9
        assert torch.equal(source(images, [""] * 6), masks)


def test_grabcut_knows_that_the_middle_is_object() -> None:
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, 64),) * 2, indexing="ij")
    head, muzzle = x.square() + y.square() < 0.5, (x.abs() < 0.2) & (y > 0)
    image = torch.where(head & ~muzzle, 60, 230).to(torch.uint8).expand(1, 3, -1, -1)
    mask = get_segmenter((0.7, 0.7, 0.7))(image, ("1",))
    assert mask[0][head].float().mean() > 0.94 and mask[0][~head].float().mean() < 0.03


def test_grabcut_side_by_side_is_grabcut_one_by_one() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, 3, 32, 32), generator=rng, dtype=torch.uint8)
    images[:, :, 8:24, 8:24] //= 4
    segmenter = get_segmenter((0.6, 0.6, 0.6))
    one_by_one = [segmenter.mask(image.permute(1, 2, 0).contiguous().numpy()) for image in images]
    for _ in range(3):
        assert (segmenter(images, [""] * 6).numpy() == one_by_one).all()


def test_grabcut_of_a_picture_without_object_is_no_error() -> None:
    flat = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    assert get_segmenter((0.5, 0.5, 0.5), 0.125)(flat, ("1",)).shape == (1, 32, 32)


def test_without_opencv_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(BackendUnavailable, match="--masks auto needs OpenCV: pip install opencv-python-head"):
        get_segmenter((0.5, 0.5, 0.5))


def test_what_lies_beyond_the_reach_is_no_object() -> None:
    faces = replace(CELEBA_HQ, masks="none", radii=(0.4, 0.5, 0.6), mask_reach=1.2)
    mask = mask_source(faces)(torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["1"])[0]
    y, x = (np.mgrid[:32, :32] + 0.5) / 16 - 1
    assert np.array_equal(mask.numpy(), np.hypot(x / (1.2 * 0.6), y / (1.2 * 0.5)) < 1)


SEGMENTER = """import sys
from pathlib import Path
from PIL import Image
images, masks = map(Path, sys.argv[1:])
for path in sorted(images.iterdir())[: {n}]:
    Image.open(path).convert("L").point(lambda v: 255 * (v > 100)).save(masks / path.name)
{end}
"""


def test_a_segmenter_in_a_process_of_its_own(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    images[1] = 0  # nothing in it: an empty mask is a mask
    script = tmp_path / "a script.py"

    def source(n: int = 3, end: str = "") -> object:
        script.write_text(SEGMENTER.format(n=n, end=end))
        return mask_source(FILES, f"run:'{sys.executable}' '{script}'")

    found = source()(images, ["1", "2", "stage-0/3-4"])
    gray = [np.asarray(Image.fromarray(i.permute(1, 2, 0).numpy()).convert("L")) for i in images]
    expected = np.stack(gray) > 100
    assert found.any() and torch.equal(found, torch.from_numpy(expected))
    with pytest.raises(ConfigError, match="left 1 of 3 masks out; it is run with two folders, of images"):
        source(2)(images, ["1", "2", "3"])
    with pytest.raises(ConfigError, match="left 0 of 3 masks out: ValueError: no luck; it is run"):
        source(3, "raise ValueError('no luck')")(images, ["1", "2", "3"])
    with pytest.raises(ConfigError, match="left 3 of 3 masks out: .*No such file"):
        mask_source(FILES, "run:/nowhere/at-all")(images, ["1", "2", "3"])
