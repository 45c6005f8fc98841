"""The page with its data in it: one HTML file that asks nobody for anything (``lift3d export --out x.html``).

A head at 128 x 128 pixels stays below ``BYTES``: its mesh is decimated to ``FACES``, all is compressed, and
as many views of a sample as fit bring their maps, the first in any case. The page draws the other views from
the mesh.
"""

import base64
import gzip
import html
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lift3d.errors import ConfigError
from lift3d.export.hdf5.reader import LiftedDataset
from lift3d.export.viewer.pack import pack
from lift3d.export.viewer.scene import camera_facts, light_facts, map_arrays, mesh_arrays
from lift3d.model import LiftedGAN
from lift3d.renderers import MeshRenderer
from lift3d.scene.mesh import Mesh, decimate
from lift3d.whole_file import write_whole

BYTES = 400_000
FACES = 8_000
SIZE = 128  # pixels of a model's picture
PAGE = Path(__file__).parent / "page"
SCRIPTS = ("gl.js", "packs.js", "viewer.js")
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


@dataclass(frozen=True)
class Page:
    """One HTML page. Jupyter shows it where a cell ends with it."""

    text: str = field(repr=False)

    def save(self, path: Path | str) -> None:
        """Writes the file, whole or not at all."""
        write_whole(path, self.text.encode())

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which may run its script and nothing else."""
        style = "width:100%;height:760px;border:0;border-radius:12px"
        source = html.escape(self.text, quote=True)
        return f'<iframe style="{style}" sandbox="allow-scripts allow-downloads" srcdoc="{source}"></iframe>'


def page(about: dict, packs: Sequence[bytes] = (), connect: bool = False) -> Page:
    """The page about ``about``, with ``packs`` in it; ``connect``: it may ask its server."""
    facts = json.dumps(about).replace("<", "\\u003c")
    blocks = "".join(f'<script type="application/octet-stream">{_text(data)}</script>\n' for data in packs)
    parts = {
        "@POLICY@": _POLICY + ("; connect-src 'self'" if connect else ""),
        "@TITLE@": html.escape(f"{about['name']} · lift3d"),
        "@STYLE@": (PAGE / "viewer.css").read_text(encoding="utf-8"),
        "@ABOUT@": facts,
        "@PACKS@": blocks,
        "@SCRIPT@": "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "@SHADE@": (PAGE / "shade.glsl").read_text(encoding="utf-8"),
    }
    text = (PAGE / "viewer.html").read_text(encoding="utf-8")
    for mark, part in parts.items():
        text = text.replace(mark, part)
    return Page(text)


def _text(data: bytes) -> str:
    """Bytes as they stand in the page."""
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def from_model(
    model: LiftedGAN,
    seeds: Sequence[int],
    truncation: float | None = None,
    size: int = SIZE,
    faces: int = FACES,
    name: str = "model",
) -> Page:
    """Samples of a model, each seen and lit as its own image is."""
    packs = []
    for seed in seeds:
        one = model.sample([seed], truncation)
        mesh = model.mesh(one.code[0])
        maps = model.render(one.code[0], one.cameras, one.lights, size, MeshRenderer(mesh))
        arrays = mesh_arrays(decimate(mesh, faces))
        arrays |= {f"{key}/0": value for key, value in map_arrays(maps, 0).items()}
        about = {"index": seed, "cameras": camera_facts(one.cameras), "lights": light_facts(one.lights)}
        packs.append(pack(about, arrays))
    facts = {"kind": "share", "noun": "seed", "name": name, "background": model.background[0]}
    return page(facts | {"license": model.config.license}, packs)


def from_dataset(
    dataset: LiftedDataset,
    items: Sequence[int],
    faces: int = FACES,
    mesh: Callable[[int], Mesh] | None = None,
) -> Page:
    """Samples of a dataset by their place in it, with their cameras and lights; ``mesh`` gives meshes that
    the file may lack.
    """
    mesh = dataset.mesh if mesh is None else mesh
    packs = []
    for item in items:
        one = dataset[item]
        arrays = mesh_arrays(decimate(mesh(item), faces))
        room = BYTES - len(_text(pack({}, arrays)))
        for view in range(len(one.cameras)):
            maps = {f"{key}/{view}": value for key, value in map_arrays(one, view).items()}
            room -= len(_text(pack({}, maps)))
            if room < 0 < view:
                break
            arrays |= maps
        about = {"index": int(one.index), "seed": int(one.seed), "cameras": camera_facts(one.cameras)}
        packs.append(pack(about | {"lights": light_facts(one.lights)}, arrays))
    return page({"kind": "share", "noun": "sample", "name": dataset.path.name, "background": 1.0}, packs)


def show(what: object, *chosen: int) -> Page:
    """The share page of seeds of a ``LiftedGAN``, or of samples of a ``LiftedDataset``; by default the first.

    In a notebook: ``lift3d.show(lifted, 7, 8)``, ``lift3d.show(dataset, 0)``. Raises ``ConfigError`` for
    anything else.
    """
    chosen = chosen or (0,)
    if isinstance(what, LiftedGAN):
        return from_model(what, chosen)
    if isinstance(what, LiftedDataset):
        return from_dataset(what, chosen)
    raise ConfigError(f"show takes a LiftedGAN or a dataset, got {type(what).__name__}")
