"""Where the GANs of the published presets are, and which GAN a preset lifts."""

import shlex
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lift3d.config.schema import Preset
from lift3d.downloads import MEGABYTE, Interrupted, Joined, cache_folder, fetch, mismatch
from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.files.load import LoadedGan, load
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.own import import_generator, is_name
from lift3d.observer import Observer, SilentObserver
from lift3d.whole_file import replacing


@dataclass(frozen=True)
class PublishedGan:
    """A GAN file that others publish; several ``urls`` are the pieces of a .tar.gz that holds ``member``."""

    file: str  # its name in the cache
    urls: tuple[str, ...]
    license: str  # what is known of the terms, one line
    member: str | None = None
    size: int | None = None  # of the file; None: unknown
    sha256: str | None = None  # of the file; None: unknown

    @property
    def path(self) -> Path:
        """Its place in the cache."""
        return cache_folder() / self.file


_NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/"
_NVIDIA_TERMS = "NVIDIA Source Code License: non-commercial use, that is, research or evaluation, only"
_GAN2SHAPE = "https://github.com/XingangPan/GAN2Shape/releases/download/v1.0/"
_GAN2SHAPE_PARTS = tuple(_GAN2SHAPE + part for part in ("x00", "x01", "x02", "x03"))
_GAN2SHAPE_TERMS = "not stated for the weights (GAN2Shape's code is MIT); take them as non-commercial only"


def _nvidia(file: str, folder: str = "transfer-learning-source-nets/") -> PublishedGan:
    return PublishedGan(file, (_NVIDIA + folder + file,), _NVIDIA_TERMS)


def _gan2shape(file: str) -> PublishedGan:
    return PublishedGan(file, _GAN2SHAPE_PARTS, _GAN2SHAPE_TERMS, f"checkpoints/stylegan2/{file}")


GANS = {  # by preset; no size or hash is documented
    "celeba": _gan2shape("stylegan2-celeba-config-e.pt"),
    "celeba-hq": _nvidia("celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl"),
    "afhq-cat": _nvidia("afhqcat.pkl", folder=""),
    "ffhq": _nvidia("ffhq-res256-mirror-paper256-noaug.pkl"),
    "ffhq-512": _nvidia("ffhq-res512-mirror-stylegan2-noaug.pkl"),
    "lsun-car": _gan2shape("stylegan2-car-config-f.pt"),
}


def download(gan: PublishedGan, observer: Observer | None = None) -> Path:
    """The file in the cache, downloaded unless it is there; other published files of the same archive are
    unpacked along with it.

    Raises ``CheckpointError`` with the steps to take by hand where the network fails (what has arrived is
    kept and continued by the next call), ``CorruptFile`` for another size, hash or content than expected.
    """
    if gan.path.exists():
        return gan.path
    observer = observer or SilentObserver()
    gan.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if gan.member is None:
            (url,) = gan.urls
            return fetch(url, gan.path, observer, gan.size, gan.sha256)
        names = [url.split("/", 3)[-1].replace("/", "-") for url in gan.urls]  # those of two URLs differ
        parts = [fetch(url, gan.path.parent / name, observer) for url, name in zip(gan.urls, names)]
    except Interrupted as error:
        raise CheckpointError(f"{gan.file} could not be downloaded ({error}); {_by_hand(gan)}") from error
    _unpack(parts, gan)
    return gan.path


def _by_hand(gan: PublishedGan) -> str:
    """How to do without us."""
    place = f"and pass it with --gan PATH or put it at {gan.path}"
    again = "run the command again to go on where it stopped, or"
    if gan.member is None:
        return f"{again} get {gan.urls[0]} by other means {place}"
    names = " ".join(url.rsplit("/", 1)[-1] for url in gan.urls)
    command = f"cat {names} | tar xz {shlex.quote(gan.member)}"
    return f"{again} get {' '.join(gan.urls)} by other means, unpack the file with `{command}` {place}"


def _unpack(parts: Sequence[Path], gan: PublishedGan) -> None:
    """Takes the wanted files out of an archive in pieces, which are deleted; other entries are skipped."""
    wanted = {other.member: other for other in (*GANS.values(), gan) if other.urls == gan.urls}
    try:
        with ExitStack() as stack:
            joined = Joined([stack.enter_context(open(part, "rb")) for part in parts])
            archive = stack.enter_context(tarfile.open(fileobj=joined, mode="r|gz"))
            for entry in archive:
                found = wanted.get(entry.name.removeprefix("./"))
                if found is None or not entry.isfile():
                    continue
                with replacing(found.path) as out:
                    shutil.copyfileobj(archive.extractfile(entry), out, MEGABYTE)
                    if wrong := mismatch(out, found.size, found.sha256):
                        raise tarfile.TarError(f"{entry.name} {wrong}")
    except (tarfile.TarError, zlib.error, EOFError) as error:
        problem = f"is damaged ({error})"
    else:
        problem = None if gan.path.exists() else f"has no file {gan.member}"
    for part in parts:
        part.unlink()
    if problem:
        raise CorruptFile(f"the archive of {gan.file} {problem} and was deleted; {_by_hand(gan)}")


DEMO_GAN = Path(__file__).parents[1] / "assets" / "demo-gan.safetensors"


def published_gan(preset: Preset) -> PublishedGan | None:
    """The GAN that ``find_gan`` would have to download for this preset, if any."""
    gan = GANS.get(preset.name)
    return None if gan is None or gan.path.exists() else gan


def find_gan(
    preset: Preset,
    path: str | Path | None = None,
    accept_license: bool = False,
    observer: Observer | None = None,
) -> LoadedGan:
    """The GAN at ``path``, a file or a function that makes it (own.py), else the one bundled for the demo,
    else the published one: from the cache, or downloaded if its license was accepted. ``CheckpointError``
    says how to get another.
    """
    if path is not None:
        return import_generator(str(path)) if is_name(str(path)) else load(path)
    if preset.name in ("demo", "tiny"):
        return load(DEMO_GAN)
    if preset.name not in GANS:
        raise CheckpointError(f"{preset.name} needs its GAN: pass the file you have with --gan PATH")
    gan = published_gan(preset)
    if gan is not None and not accept_license:
        raise CheckpointError(
            f"{preset.name} needs the GAN {gan.file} (license: {gan.license}): pass --accept-license to "
            f"accept these terms and download it from {gan.urls[0]}, or pass the file you have with "
            "--gan PATH"
        )
    path = download(GANS[preset.name], observer)
    try:
        return load(path)
    except CorruptFile as error:
        raise CorruptFile(f"{error}; it is a download: delete it, and it is fetched again") from error


def check_gan(preset: Preset, gan: LoadedGan) -> None:
    """Refuses, with ``CheckpointError``, a GAN that this preset cannot lift."""
    if isinstance(gan.generator, StyleGenerator):
        config = gan.generator.config
        if config.c_dim or (gan.discriminator is not None and gan.discriminator.config.c_dim):
            raise CheckpointError(f"{gan.source} is conditional, {preset.name} needs a GAN without classes")
        if config.image_channels != 3:
            raise CheckpointError(
                f"{gan.source} draws {config.image_channels} channels per pixel, expected 3 of RGB"
            )
    side = gan.generator.resolution
    if side < preset.size:
        raise CheckpointError(
            f"{gan.source} draws {side} x {side} pixels, {preset.name} works at {preset.size}: give a GAN of "
            f"{preset.size} pixels or more, or a category's file with size = {side}"
        )
