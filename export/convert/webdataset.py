"""Tar shards by the conventions of the ``webdataset`` package: an item per view.

``shard-000000.tar`` and so on. The files of an item follow each other and share a key, the name up to the
first dot: ``000003-view001.light000.png``, ``.albedo.png``, ``.mask.png`` (0 or 255), ``.depth.npy``,
``.normals.npy``, ``.diffuse_shading.npy`` ([lights, y, x]) and so on, with the dataset's values, and
``.json`` with the camera (OpenCV axes) and the lights. All views of a sample are in one shard.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lift3d.export.convert.images import png
from lift3d.export.convert.png import CONVENTIONS
from lift3d.export.convert.sample import Sample

SHARD_BYTES = 200_000_000  # a shard that is as large takes no further sample
_PNG = {"albedo": 1, "mask": 255}  # and colors; factor of the values


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """All maps of all samples."""
    shard, n = None, 0
    for sample in samples:
        if shard is None or shard.fileobj.tell() >= SHARD_BYTES:
            if shard is not None:
                shard.close()
            shard, n = tarfile.open(folder / f"shard-{n:06d}.tar", "w", format=tarfile.USTAR_FORMAT), n + 1
        for name, data in (entry for view in range(sample.n_views) for entry in _item(sample, view)):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            shard.addfile(entry, io.BytesIO(data))
    if shard is not None:
        shard.close()


def _item(sample: Sample, view: int) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an item's files."""
    key = f"{sample.name}-view{view:03d}"
    about = {"sample": sample.number, "seed": sample.seed, "view": view}
    about |= {"K": sample.k[view].tolist(), "cam2world": sample.cam2world[view].tolist()}
    about["lights"] = [sample.light(i) for i in range(sample.n_lights)]
    about["conventions"] = {k: v for k, v in CONVENTIONS.items() if k != "maps"}
    yield f"{key}.json", json.dumps(about).encode()
    for name, array in sample.maps.items():
        if name.startswith("colors"):
            suffix = name.removeprefix("colors").replace("_", ".")  # ".gan" of colors_gan
            for light, image in enumerate(array[view]):
                yield f"{key}.light{light:03d}{suffix}.png", png(image)
        elif name in _PNG:
            yield f"{key}.{name}.png", png(array[view].astype(np.uint8) * np.uint8(_PNG[name]))
        else:
            buffer = io.BytesIO()
            np.save(buffer, array[view])
            yield f"{key}.{name}.npy", buffer.getvalue()
