"""The card of a dataset: what is in ``faces.h5``, for a person who has only the file.

``faces.card.md`` stands beside the file, on the model of Hugging Face's dataset cards: a head of YAML, then
text with tables. Two pictures belong to it: ``faces.card.png``, a contact sheet, and
``faces.card-histograms.png``. Numbers are those of at most ``LOOKED_AT`` samples, evenly chosen.

Angles: azimuth is 0 in front of the object and positive to its left, the viewer's right (world x); elevation
is positive above (world y); both in degrees, of the camera's place and of the direction to the light.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.typing import NDArray

from lift3d.errors import ConfigError
from lift3d.export.contact_sheet import contact_sheet
from lift3d.export.hdf5.reader import FileInfo, LiftedDataset, describe, open_dataset
from lift3d.export.hdf5.schema import SPECS
from lift3d.pictures import save_image
from lift3d.plots import histograms
from lift3d.whole_file import write_whole

LOOKED_AT = 256  # samples
MATT = 0.02  # mean specular intensity below which highlights are not seen
ROWS = 6  # of the contact sheet
LICENSES = ("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "mit", "apache-2.0")
SIZES = (("n<1K", 10**3), ("1K<n<10K", 10**4), ("10K<n<100K", 10**5), ("100K<n<1M", 10**6))
OPTIONS = {  # of ``lift3d sample``, by what the plan calls them
    "model": "--model", "n": "--n", "seed": "--seed", "views": "--views", "lights": "--lights",
    "size": "--size", "truncation": "--trunc", "maps": "--maps", "meshes": "--meshes", "split": "--split",
    "gan": "--gan", "renderer": "--renderer", "mesh_resolution": "--mesh-resolution",
}  # fmt: skip
INSTANCES = {"seeds": "--seeds", "w": "--latents", "z": "--latents", "interpolate": "--interpolate"}


@dataclass(frozen=True)
class Card:
    """The files of a card."""

    text: Path
    sheet: Path
    histograms: Path

    @staticmethod
    def of(path: Path | str) -> "Card":
        """The card beside a dataset."""
        stem = Path(path).with_suffix("")
        return Card(*(stem.with_name(f"{stem.name}.card{end}") for end in (".md", ".png", "-histograms.png")))


def write_card(path: Path | str) -> Card:
    """Write or replace the card of a dataset. ``ConfigError`` where it has no finished sample."""
    about, card = describe(Path(path)), Card.of(path)
    maps = [name for name in ("albedo", "specular", "mask") if _has(about, name)]
    measured = measure(open_dataset(path, maps=maps))
    save_image(card.sheet, contact_sheet(path, ROWS))
    save_image(card.histograms, histograms(_panels(measured)))
    write_whole(card.text, text(about, measured, card).encode())
    return card


def measure(faces: LiftedDataset) -> dict[str, Float[ndarray, " n"]]:
    """What the histograms and the table of ranges show, by name: values of all views, lights or pixels."""
    if not len(faces):
        raise ConfigError(f"{faces.path} has no finished sample; lift3d sample --resume finishes it")
    found: dict[str, list[NDArray]] = {}
    for i in np.unique(np.linspace(0, len(faces) - 1, LOOKED_AT).astype(int)):
        sample = faces[int(i)]
        places, k = sample.cam2world[:, :3, 3].numpy(), sample.intrinsics.numpy()
        values = _angles("view", places) | _angles("light", sample.light_dir.numpy())
        values["view distance, units"] = np.linalg.norm(places, axis=-1)
        values["view angle, degrees"] = np.degrees(2 * np.arctan2(k[:, 1, 2], k[:, 1, 1]))
        values["light, ambient"] = sample.light_ambient.numpy()
        values["light, diffuse"] = sample.light_diffuse.numpy()
        if sample.mask is not None:
            values["share of pixels inside the mask"] = sample.mask.float().mean((1, 2)).numpy()
        if sample.albedo is not None:
            inside = sample.mask if sample.mask is not None else sample.albedo.amax(-1) > 0
            pixels = sample.albedo[inside].numpy()[::7] / np.float32(255)  # a seventh is enough
            values |= {f"albedo, {color}": pixels[:, c] for c, color in enumerate(("red", "green", "blue"))}
        if sample.specular is not None:
            seen = sample.specular if sample.mask is None else sample.specular[sample.mask]
            values["specular intensity"] = seen.flatten().numpy()[::7]
        for name, array in values.items():
            found.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays).astype(np.float64) for name, arrays in found.items()}


def text(about: FileInfo, measured: Mapping[str, NDArray], card: Card) -> str:
    """The card itself."""
    parts = [*_head(about), *_intro(about, card), *_content(about), *_numbers(measured, card)]
    return "\n\n".join([*parts, *_conventions(about), *_limits(about, measured)]) + "\n"


def command(plan: Mapping[str, object]) -> str:
    """The command line that made a dataset of this plan; seeds or latents too many to name are left out."""
    options, (kind, _, what) = dict(plan), str(plan.get("latents", "")).partition(":")
    named = kind in ("seeds", "w", "z", "interpolate") and (kind in ("w", "z") or " " not in what)
    if named:
        options["n"] = None  # the instances say how many they are
    words = [f"{INSTANCES[kind]} {what.split(' ')[0]}"] if named else []
    for name, option in OPTIONS.items():
        value = options.get(name)
        if value is True and name == "gan":
            words.append(option)
        elif value is not None and not isinstance(value, bool) and value != []:
            joint = "/" if name == "split" else ","
            words.append(f"{option} {joint.join(map(str, value)) if isinstance(value, list) else value}")
    return "lift3d sample " + " ".join(words)


def _head(about: FileInfo) -> Iterator[str]:
    """YAML. Strings are quoted as in JSON, which YAML reads."""
    words = about.license.split()
    known = words[0].lower() if words and words[0].lower() in LICENSES else None
    size = next((label for label, n in SIZES if about.done < n), "n>1M")
    lines = ["---", f"pretty_name: {json.dumps(about.path.stem)}", f"license: {known or 'other'}"]
    if not known:
        slug = re.sub(r"[^a-z0-9]+", "-", about.license.lower()).strip("-") or "not-stated"
        lines += [f"license_name: {slug}", f"license_details: {json.dumps(about.license)}"]
    lists = {
        "size_categories": [size],
        "annotations_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "task_categories": ["image-to-3d", "depth-estimation"],
        "tags": ["synthetic", "multi-view", "relighting", "inverse-rendering", "hdf5", "lift3d"],
    }
    for name, values in lists.items():
        lines += [f"{name}:", *(f"- {json.dumps(value)}" for value in values)]
    yield "\n".join([*lines, "---"])


def _intro(about: FileInfo, card: Card) -> Iterator[str]:
    shape = _shape(about)
    yield f"# {about.path.name}"
    yield (
        f"{about.done} synthetic instances, each rendered from {shape['view']} views under {shape['light']} "
        f"lights at {shape['y']} x {shape['y']} pixels, with the maps that explain every pixel. A 3D GAN, "
        "lifted from a 2D GAN, made them; each instance is one surface, so all of its images agree."
    )
    yield f"![Some of the instances: views, lights, maps]({card.sheet.name})"
    yield f"Written by {about.generator}, {about.created}, by the command"
    yield f"    {command(about.config.get('plan', {}))}"


def _content(about: FileInfo) -> Iterator[str]:
    yield "## What is in the file"
    left = about.planned - about.done
    yield f"{about.done} of {about.planned} samples are finished" + (
        f"; the other {left} hold nothing, and readers skip them." if left else "."
    )
    rows = ["| dataset | shape | dtype | units | bytes |", "|---|---|---|---|---|"]
    for info in about.datasets:
        shape = " x ".join(map(str, info.shape))
        rows.append(f"| `{info.name}` | {shape} | {info.dtype} | {info.units} | {info.nbytes:,} |")
    yield "\n".join(rows)
    yield "Attributes of every dataset say its axes, units, range, frame and color space. To read the file:"
    yield (
        "```python\nimport lift3d  # or h5py alone: it is plain HDF5\n\n"
        f'faces = lift3d.open_dataset("{about.path.name}")\n'
        "sample = faces[0]\nsample.colors  # [views, lights, y, x, 3], uint8\n```"
    )


def _numbers(measured: Mapping[str, NDArray], card: Card) -> Iterator[str]:
    yield "## Views, lights, albedo"
    yield f"![Histograms]({card.histograms.name})"
    rows = ["| | least | mean | greatest |", "|---|---|---|---|"]
    for name, values in measured.items():
        numbers = " | ".join(f"{f(values):.3g}" for f in (np.min, np.mean, np.max)) if len(values) else "| |"
        rows.append(f"| {name} | {numbers} |")
    yield "\n".join(rows)
    yield (
        f"Of at most {LOOKED_AT} samples. Azimuth is positive towards world x, the viewer's right; elevation "
        "is positive upwards; both are 0 in front of the object."
    )


def _conventions(about: FileInfo) -> Iterator[str]:
    yield "## Conventions"
    names = ("colors", "depth", "normals", "cam2world", "cam_K", "light_dir")
    yield "\n".join(f"* `{name}`: {SPECS[name].description}." for name in names if _has(about, name))
    yield (
        "World: right-handed, x right, y up, z towards the viewer of the canonical pose. Background is 0 in "
        "every map but `colors`, and `mask` says where."
    )


def _limits(about: FileInfo, measured: Mapping[str, NDArray]) -> Iterator[str]:
    yield "## License"
    yield about.license or "Not stated by the model that made the images."
    yield "## Known limits"
    plan = about.config.get("plan", {})
    limits = [
        "Pictures of a model, no photographs: they have the 2D GAN's biases, and nothing it did not learn.",
        "Shape where the 2D GAN shows none, such as the back, is a guess.",
        "One directional light and ambient light; no cast shadows, no interreflections.",
        "Shading acts on display-referred sRGB values, not on linear radiance.",
    ]
    if plan.get("renderer") == "mesh":
        cells = plan.get("mesh_resolution")
        limits.append(f"Silhouettes and depth are those of a mesh of {cells} cells per axis.")
    if (specular := measured.get("specular intensity", np.ones(1)).mean()) < MATT:
        limits.append(f"Hardly any highlights: the mean specular intensity is {specular:.2g}.")
    yield "\n".join(f"* {limit}" for limit in limits)


def _angles(of: str, directions: Float[ndarray, "n 3"]) -> dict[str, Float[ndarray, " n"]]:
    """Azimuth and elevation, degrees."""
    x, y, z = directions.T
    return {
        f"{of} azimuth, degrees": np.degrees(np.arctan2(x, z)),
        f"{of} elevation, degrees": np.degrees(np.arctan2(y, np.hypot(x, z))),
    }


def _panels(measured: Mapping[str, NDArray]) -> dict[str, dict[str, NDArray]]:
    """Histograms by title; those of a panel share its axes."""
    panels: dict[str, dict[str, NDArray]] = {}
    for name, values in measured.items():
        title, _, label = name.partition(", ") if name.startswith(("albedo", "light,")) else (name, "", "")
        if title.endswith(("azimuth, degrees", "elevation, degrees")) or label:
            panels.setdefault(title if title != "light" else "light coefficients", {})[label] = values
    return panels


def _shape(about: FileInfo) -> dict[str, int]:
    """Lengths of the axes of ``colors``."""
    colors = next(info for info in about.datasets if info.name == "colors")
    return dict(zip(SPECS["colors"].axes.split(","), colors.shape))


def _has(about: FileInfo, name: str) -> bool:
    return any(info.name == name for info in about.datasets)
