"""Folders of photographs become one array: what they show, what is skipped, and that it happens once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lift3d.errors import ConfigError, CorruptFile
from lift3d.gan.training import images as module
from lift3d.gan.training.images import open_images, packed_images, read_picture
from lift3d.observer import SilentObserver
from lift3d.synthetic.pack import head_images, pack_images


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def message(self, text: str) -> None:
        self.lines.append(text)


def pixels(h: int, w: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, channels), np.uint8).squeeze()


def test_the_central_square_is_taken(tmp_path: Path) -> None:
    for shape, part in (((8, 12), np.s_[:, 2:10]), ((14, 8), np.s_[3:11])):
        Image.fromarray(pixels(*shape)).save(tmp_path / "a.png")
        image, side = read_picture(tmp_path / "a.png", 8)
        assert np.array_equal(image, pixels(*shape)[part]) and side == 8


def test_pictures_are_resized_without_aliasing(tmp_path: Path) -> None:
    board = np.indices((96, 96)).sum(0) % 2 * 255
    Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8)).save(tmp_path / "a.png")
    image, _ = read_picture(tmp_path / "a.png", 16)
    assert np.abs(image.astype(int) - 127).max() <= 2


def test_turned_transparent_and_gray_pictures(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(pixels(8, 8)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png", 8)[0], np.rot90(pixels(8, 8), -1))
    layer = np.dstack((pixels(8, 8), np.zeros((8, 8), np.uint8)))
    layer[:4, :, 3] = 255
    Image.fromarray(layer).save(tmp_path / "a.webp", lossless=True)
    image, _ = read_picture(tmp_path / "a.webp", 8)
    assert np.array_equal(image[:4], pixels(8, 8)[:4]) and (image[4:] == 255).all()
    Image.fromarray(pixels(8, 8, channels=1)).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png", 8)[0][..., 1], pixels(8, 8, channels=1))


def test_large_photographs_are_decoded_small(tmp_path: Path) -> None:
    big = Image.fromarray(pixels(16, 16)).resize((1024, 1024), Image.Resampling.BICUBIC)
    big.save(tmp_path / "a.jpg", quality=95)
    image, side = read_picture(tmp_path / "a.jpg", 32)
    expected = np.asarray(big.resize((32, 32), Image.Resampling.LANCZOS), int)
    assert side == 1024 and np.abs(image - expected).max() <= 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, three of them good, and a file that is none."""
    root = tmp_path / "photos"
    (root / "more" / ".hidden").mkdir(parents=True)
    Image.fromarray(pixels(8, 8, 1)).save(root / "b.PNG")
    Image.fromarray(pixels(8, 8, 2)).save(root / "a.png")
    Image.fromarray(pixels(4, 4, 3)).save(root / "more" / "c.jpeg")
    (root / "d.jpg").write_bytes(b"no picture")
    (root / "e.png").write_bytes((root / "a.png").read_bytes()[:80])
    Image.fromarray(pixels(8, 8, channels=1).astype(np.uint16) * 257).save(root / "f.png")
    Image.fromarray(pixels(8, 8)).save(root / "more" / ".hidden" / "g.png")
    (root / ".h.png").write_bytes(b"")
    (root / "notes.txt").write_text("none")
    return root


def test_bad_files_are_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    notes = Notes()
    images = packed_images(folder, tmp_path / "run", 8, notes)
    assert images.shape == (3, 8, 8, 3) and images.dtype == np.uint8
    assert np.array_equal(images[0], pixels(8, 8, 2)) and np.array_equal(images[1], pixels(8, 8, 1))
    assert [line.split(":")[0] for line in notes.lines[:3]] == [
        f"skipped {folder / n}" for n in ("d.jpg", "e.png", "f.png")
    ]
    assert "pixels of kind I;16, expected 8 bits" in notes.lines[2]
    assert notes.lines[3:] == ["1 of 3 pictures are smaller than 8 pixels and were enlarged"]


def test_only_some_of_many_bad_files_are_named(tmp_path: Path) -> None:
    for i in range(14):
        (tmp_path / f"{i:02}.png").write_bytes(b"no")
    with pytest.raises(
        ConfigError, match="none of the 14 pictures could be read; the first is .*00.png: cannot"
    ):
        packed_images(tmp_path, tmp_path / "run", 8)
    assert not list((tmp_path / "run").iterdir())
    Image.fromarray(pixels(8, 8)).save(tmp_path / "z.png")
    notes = Notes()
    assert len(packed_images(tmp_path, tmp_path / "run", 8, notes)) == 1
    assert len(notes.lines) == 11 and notes.lines[-1] == "skipped 4 more"


def test_a_bomb_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name, side in (("a", 8), ("b", 12), ("c", 40)):  # fine, to be warned of, refused
        Image.fromarray(pixels(side, side)).save(tmp_path / f"{name}.png")
    notes = Notes()
    assert len(packed_images(tmp_path, tmp_path / "run", 8, notes)) == 1
    assert [line.count("decompression bomb") for line in notes.lines] == [1, 1]


def test_a_folder_is_packed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    first = np.array(packed_images(folder, run, 8))
    with monkeypatch.context() as patch:
        patch.delattr(module, "pack_pictures")
        assert np.array_equal(packed_images(folder, run, 8), first)
        assert np.array_equal(packed_images(folder, run, 8, resume=True), first)
    Image.fromarray(pixels(9, 9, 5)).save(folder / "new.png")
    with pytest.raises(
        ConfigError, match="does not have the pictures that the run in .*run began with: give"
    ):
        packed_images(folder, run, 8, resume=True)
    assert len(packed_images(folder, run, 8)) == 4
    assert len(list(run.iterdir())) == 1  # the first pack is gone


def test_renders_of_heads_are_packed_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack_images(tmp_path / "a.npy", "train", 2, 8, workers=1)
    assert np.array_equal(packed, np.concatenate([head_images("train", i, 8) for i in range(2)]))
    before = (tmp_path / "a.npy").read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack_images(tmp_path / "a.npy", "train", 1, 8, workers=1)
    assert (tmp_path / "a.npy").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_what_is_no_folder_of_pictures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no pictures: give a folder with PNG, JPEG or WebP files"):
        packed_images(tmp_path, tmp_path / "run", 8)
    with pytest.raises(ConfigError, match="is neither a folder of pictures nor a .npy file"):
        open_images(tmp_path / "no")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CorruptFile, match="is truncated or no .npy file"):
        open_images(tmp_path / "a.npy")
