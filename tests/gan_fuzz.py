"""Feeds mutated and random GAN files to ``load``: ``python tests/gan_fuzz.py [SMALL] [FULL] [SEED]``.

Prints a JSON summary. Small files hold networks of 8 pixels; full-size ones of 256 pixels (200 MB). All must
end in a loaded GAN or a one-sentence ``Lift3DError``, within 3 times the file's size + 200 MB of memory. Each
input follows from SEED and its number.
"""

import io
import json
import pickle
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from gan_files import (
    alias_free_generator,
    dumps,
    nvlabs_discriminator,
    nvlabs_generator,
    rosinality_discriminator,
    rosinality_generator,
    saved,
    snapshot,
    training_arguments,
)
from gan_probe import memory, reset_peak

from lift3d.errors import Lift3DError
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig, channels_for
from lift3d.gan.files.load import load, save_gan
from lift3d.gan.stylegan2 import Discriminator, Generator
from lift3d.gan.stylegan3 import AliasFreeGenerator

SMALL = ((3, 2), 4, 2)  # channels, width of z and w, mapping layers
FULL = (channels_for(256, 16384, 512), 512, 8)
NAMES = (
    b"torch._utils\n_rebuild_tensor_v2\n",
    b"collections\nOrderedDict\n",
    b"torch.storage\n_load_from_bytes\n",
    b"torch_utils.persistence\n_reconstruct_persistent_obj\n",
    b"numpy\ndtype\n",
    b"numpy.core.multiarray\nscalar\n",
    b"builtins\nset\n",
    b"builtins\nexec\n",
    b"torch\nFloatStorage\n",
)
CODES = [
    getattr(pickle, name)
    for name in dir(pickle)
    if name.isupper() and isinstance(getattr(pickle, name), bytes)
]
CODES = [code for code in CODES if len(code) == 1]


def originals(channels: tuple[int, ...], width: int, layers: int, full: bool) -> dict[str, bytes]:
    """A valid file of each kind."""
    torch.manual_seed(0)
    g = Generator(GeneratorConfig(channels, width, width, n_mapping_layers=layers)).requires_grad_(False)
    d = Discriminator(DiscriminatorConfig(channels)).requires_grad_(False)
    stored = snapshot(nvlabs_generator(g), nvlabs_discriminator(d))
    checkpoint = {
        "g_ema": rosinality_generator(g),
        "d": rosinality_discriminator(d),
        "latent_avg": g.mapping.w_avg,
        "args": training_arguments(),
    }
    found = {"pickle4": dumps(stored, 4), "archive": saved(checkpoint)}
    if full:
        return found
    config = AliasFreeConfig((*channels, 2), 8, width, width, n_mapping_layers=layers, margin=2)
    free = AliasFreeGenerator(config).requires_grad_(False)
    stored_free = snapshot(alias_free_generator(free), nvlabs_discriminator(d))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.safetensors"
        save_gan(path, g, d)
        native = path.read_bytes()
        save_gan(path, free, d)
        found |= {"native": native, "native-alias-free": path.read_bytes()}
    found |= {"pickle2": dumps(stored, 2), "legacy": saved(checkpoint, legacy=True)}
    return found | {f"alias-free{protocol}": dumps(stored_free, protocol) for protocol in (2, 4)}


# --- mutations: bytes in place -----------------------------------------------------------------------------


def flip(data: bytearray, rng: random.Random) -> None:
    """A few bits."""
    for _ in range(rng.randint(1, 8)):
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random) -> None:
    """A few bytes, often special ones."""
    special = (b"\x00", b"\xff", struct.pack("<I", 0xFFFFFFFF), struct.pack("<q", -1), *CODES)
    for _ in range(rng.randint(1, 4)):
        new, i = rng.choice((rng.randbytes(rng.randint(1, 16)), *rng.sample(special, 5))), _place(data, rng)
        data[i : i + len(new)] = new[: max(len(data) - i, 0)]


def cut(data: bytearray, rng: random.Random) -> None:
    """The end is missing."""
    del data[rng.randrange(len(data)) :]


def remove(data: bytearray, rng: random.Random) -> None:
    """A piece is missing."""
    i = _place(data, rng)
    del data[i : i + rng.choice((1, 2, 4, 8, 100, 4000))]


def repeat(data: bytearray, rng: random.Random) -> None:
    """A piece is there twice, or somewhere else."""
    i, n = _place(data, rng), rng.choice((1, 2, 8, 64, 1000))
    j = _place(data, rng)
    data[j:j] = data[i : i + n]


def insert(data: bytearray, rng: random.Random) -> None:
    """Operations that the file did not have."""
    i = _place(data, rng)
    data[i:i] = program(rng, rng.randint(1, 12))


def rename(data: bytearray, rng: random.Random) -> None:
    """A word of the file is another one."""
    words = (
        b"style",
        b"conv",
        b"weight",
        b"bias",
        b"synthesis",
        b"_modules",
        b"Generator",
        b"state",
        b"FloatStorage",
    )
    old, new = rng.sample(words, 2)
    i = data.find(old, _place(data, rng))
    if i >= 0:
        data[i : i + len(old)] = (new + b"______________")[: len(old)]


def _place(data: bytearray, rng: random.Random) -> int:
    """Anywhere; half of the time near the start or the end, where structure is."""
    near = min(len(data), 2000)
    return rng.choice((rng.randrange(len(data)), rng.randrange(near), len(data) - 1 - rng.randrange(near)))


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    overwrite,
    cut,
    remove,
    repeat,
    insert,
    rename,
)


def mutated_entry(data: bytes, rng: random.Random) -> bytes:
    """An archive with a mutated pickle or storage and right checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        target = rng.choice(
            (*[name for name in old.namelist() if name.endswith("data.pkl")] * 40, *old.namelist())
        )
        for entry in old.infolist():
            content = bytearray(old.read(entry))
            if entry.filename == target and content:
                rng.choice(MUTATIONS)(content, rng)
            new.writestr(entry.filename, bytes(content), rng.choice((0, 0, 0, 8)))
    return out.getvalue()


def program(rng: random.Random, n: int) -> bytes:
    """n random pickle operations, with arguments where they take some."""
    parts = []
    for _ in range(n):
        code = rng.choice(CODES)
        if code == pickle.GLOBAL:
            parts.append(code + rng.choice(NAMES))
        elif code in (pickle.BINUNICODE, pickle.BINBYTES, pickle.BINSTRING):
            parts.append(code + struct.pack("<I", rng.choice((0, 1, 3, 1 << 30))) + b"abc")
        elif code in (pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES, pickle.SHORT_BINSTRING, pickle.LONG1):
            parts.append(code + b"\x03abc")
        else:
            parts.append(code + rng.randbytes(rng.choice((0, 0, 1, 4))))
    return b"".join(parts)


def small_input(i: int, seed: int, files: dict[str, bytes]) -> bytes:
    """The i-th small input."""
    rng = random.Random(f"{seed} {i}")
    kind = rng.choice((*files, *files, "archive entry", "program", "noise"))
    if kind == "noise":
        start = rng.choice(
            (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04", struct.pack("<Q", rng.randrange(200)) + b"{")
        )
        return start + rng.randbytes(rng.randrange(2000))
    if kind == "program":
        return b"\x80\x04" + program(rng, rng.randint(1, 400)) + b"."
    if kind == "archive entry":
        return mutated_entry(files["archive"], rng)
    data = bytearray(files[kind])
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if data:
            rng.choice(MUTATIONS)(data, rng)
    return bytes(data)


def full_input(i: int, seed: int, files: dict[str, bytes]) -> bytearray:
    """The i-th full-size input."""
    rng = random.Random(f"{seed} full {i}")
    data = bytearray(rng.choice(list(files.values())))
    rng.choice(MUTATIONS)(data, rng)
    return data


def outcome(path: Path) -> str:
    """Class of what ``load`` did; anything but a GAN or a proper sentence starts with "FAILED"."""
    try:
        load(path)
        return "loaded"
    except Lift3DError as error:
        text = str(error)
        proper = text.startswith(str(path)) and "\n" not in text and len(text) < 600
        return type(error).__name__ if proper else f"FAILED: {text!r:.300}"
    except BaseException as error:
        return f"FAILED: {type(error).__name__}: {error!s:.300}"


def run(n: int, make: Callable[[int], bytes | bytearray], path: Path) -> dict:
    """Outcomes, failures, and the worst time and memory of n inputs."""
    counts: Counter[str] = Counter()
    failures, slowest, highest, imports = [], (0.0, -1), (-1e9, -1), memory("VmRSS")
    for i in range(n):
        data = make(i)
        path.write_bytes(data)
        size = len(data)
        del data
        held = memory("VmRSS")
        reset_peak()
        start = time.monotonic()
        result = outcome(path)
        seconds, excess = time.monotonic() - start, memory("VmHWM") - max(held, imports) - 3 * size
        counts[result.split(":")[0]] += 1
        if result.startswith("FAILED") or seconds > 60 or excess > 200e6:
            failures.append({"input": i, "result": result, "seconds": seconds, "excess": excess})
        slowest, highest = max(slowest, (seconds, i)), max(highest, (excess, i))
    return {
        "inputs": n,
        "counts": dict(counts),
        "failures": failures[:20],
        "slowest": slowest,
        "most_memory_over_3_times_the_size": highest,
    }


def main(small: int, full: int, seed: int) -> dict:
    """Runs both parts."""
    warnings.simplefilter("ignore")
    report = {}
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder) / "file"
        for name, n, make, sizes in (("small", small, small_input, SMALL), ("full", full, full_input, FULL)):
            if n == 0:
                continue
            files = originals(*sizes, full=name == "full")
            for data in files.values():  # the originals load, and what loading imports does not count
                path.write_bytes(data)
                assert outcome(path) == "loaded", outcome(path)
            report[name] = run(n, lambda i, make=make, files=files: make(i, seed, files), path)
    return report


if __name__ == "__main__":
    print(
        json.dumps(
            main(*(int(a) for a in [*sys.argv[1:], *("300", "0", "0")[len(sys.argv) - 1 :]])), indent=1
        )
    )
