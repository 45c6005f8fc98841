"""Training images: a .npy file, or a folder of pictures that is packed into one.

*Images* here are one uint8 array [count, side, side, 3], sRGB, usually a memory map. Pictures may have any
size: their central square is taken and resized without aliasing.
"""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from lift3d.errors import ConfigError, CorruptFile
from lift3d.observer import Observer, SilentObserver
from lift3d.whole_file import replacing

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NAMED = 10  # bad files that are named one by one
_AT_ONCE = 64  # pictures that are read ahead


def open_images(path: str | Path) -> np.ndarray:
    """The images in a .npy file, as a memory map; their shape is not checked."""
    if not Path(path).is_file():
        raise ConfigError(f"{path} is neither a folder of pictures nor a .npy file of images")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError) as error:
        raise CorruptFile(f"{path} is truncated or no .npy file: {error}") from error


def packed_images(
    folder: Path, out_dir: Path, size: int, observer: Observer | None = None, resume: bool = False
) -> np.ndarray:
    """The pictures of a folder and the folders in it, as images of ``size`` pixels in the order of their
    names.

    They are packed once, into ``images-SIZE-KEY.npy`` in ``out_dir``, where KEY stands for the names and
    lengths of the files. ``resume``: refuses with ``ConfigError`` other pictures than those that are packed
    there.
    """
    files = _pictures(folder)
    if not files:
        raise ConfigError(f"{folder} has no pictures: give a folder with PNG, JPEG or WebP files in it")
    pack = out_dir / f"images-{size}-{_key(folder, files)}.npy"
    others = [path for path in out_dir.glob(f"images-{size}-*.npy") if path != pack]
    if resume and others and not pack.exists():
        raise ConfigError(
            f"{folder} does not have the pictures that the run in {out_dir} began with: give these, or start "
            "anew with --overwrite"
        )
    if not pack.exists():
        pack_pictures(files, pack, size, observer)
    for other in others:
        other.unlink()
    return open_images(pack)


def pack_pictures(files: Sequence[Path], out: Path, size: int, observer: Observer | None = None) -> None:
    """Writes the images of many pictures as one .npy file; pictures that cannot be read are named to the
    observer and left out.
    """
    observer = observer or SilentObserver()
    out.parent.mkdir(parents=True, exist_ok=True)
    count, bad, small = 0, [], 0
    observer.start("reading pictures", len(files))
    with replacing(out) as file:
        start = _write_header(file, len(files), size)
        for path, picture in zip(files, _read_all(files, size)):
            observer.advance()
            if isinstance(picture, str):
                bad.append(f"{path}: {picture}")
                continue
            image, was = picture
            count, small = count + 1, small + (was < size)
            file.write(image.tobytes())
        if count == 0:
            raise ConfigError(f"none of the {len(files)} pictures could be read; the first is {bad[0]}")
        file.seek(0)
        assert _write_header(file, count, size) == start  # numpy leaves room for longer numbers
    observer.finish()
    for line in bad[:NAMED]:
        observer.message(f"skipped {line}")
    if len(bad) > NAMED:
        observer.message(f"skipped {len(bad) - NAMED} more")
    if small:
        observer.message(f"{small} of {count} pictures are smaller than {size} pixels and were enlarged")


def read_picture(path: Path, size: int) -> tuple[UInt8[np.ndarray, "size size 3"], int]:
    """The central square of a picture, upright, on white where it is transparent, and how many pixels a side
    of it had. Raises whatever Pillow does.
    """
    with Image.open(path) as picture:
        if picture.mode.startswith(("I", "F")):
            raise OSError(f"it has pixels of kind {picture.mode}, expected 8 bits a channel")
        side = min(picture.size)
        if picture.format == "JPEG":
            picture.draft("RGB", (2 * size, 2 * size))  # decodes no more than needed
        upright = ImageOps.exif_transpose(picture)
        if "A" in upright.getbands() or "transparency" in upright.info:
            layer = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        square = ImageOps.fit(upright.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return np.array(square), side


def _read_all(
    files: Sequence[Path], size: int
) -> Iterator[tuple[UInt8[np.ndarray, "size size 3"], int] | str]:
    """What ``read_picture`` gives of each, or what is wrong with it; by several threads."""

    def read(path: Path) -> tuple[np.ndarray, int] | str:
        try:
            return read_picture(path, size)
        except (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError) as error:
            return str(error).partition("\n")[0] or type(error).__name__

    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for i in range(0, len(files), _AT_ONCE):
            yield from pool.map(read, files[i : i + _AT_ONCE])


def _pictures(folder: Path) -> list[Path]:
    """Files with a picture's name at any depth, sorted; hidden ones do not count."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    visible = (path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))
    return sorted(path for path in visible if path.is_file())


def _key(folder: Path, files: Sequence[Path]) -> str:
    """Names and lengths of files in a few characters."""
    listing = "".join(f"{path.relative_to(folder)}\0{path.stat().st_size}\0" for path in files)
    return hashlib.sha256(listing.encode(errors="surrogateescape")).hexdigest()[:16]


def _write_header(file: object, count: int, size: int) -> int:
    """The head of a .npy file of images, and where it ends."""
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, shape)
    return file.tell()
