"""Pages from the source: docs/dataset.md, docs/api.md and docs/settings.md, by ``make docs``."""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path

import lift3d
from lift3d.config import schema as settings
from lift3d.export.hdf5 import schema
from lift3d.render.volume import SamplingConfig
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior

WIDTH = 120
NOTE = "Written by `make docs`; do not edit."
DOCS = Path(__file__).parent
DTYPES = {"u1": "uint8", "i4": "int32", "i8": "int64", "u8": "uint64", "?": "bool"}
DTYPES |= {"f2": "float16", "f4": "float32"}


def filled(text: str, indent: str = "") -> str:
    """Wrapped so that no line begins with an operator, which would be a list or a quotation in Markdown."""
    glued = re.sub(r" (?=[-+*>] )", "\0", text)
    lines = textwrap.fill(
        glued, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return lines.replace("\0", " ")


def entry(title: str, text: str) -> str:
    """A list entry, wrapped."""
    return filled(f"* {title} {text}", "  ")


def dataset_page() -> str:
    """The specification of dataset files."""
    parts = [
        "# The dataset file, version " + str(schema.FORMAT_VERSION),
        NOTE + " Its source is `export/hdf5/schema.py`.",
        prose(inspect.getdoc(schema)),
        "Every dataset has the attributes " + ", ".join(f"`{name}`" for name in schema.ATTRIBUTES) + ".",
        "Required: "
        + ", ".join(f"`{name}`" for name in schema.REQUIRED)
        + ". The others are there on request.",
        "The file itself has the attributes "
        + ", ".join(f"`{name}`" for name in schema.ROOT_ATTRIBUTES)
        + ".",
        "## Datasets",
    ]
    parts = [part if "\n" in part else filled(part) for part in parts]
    return "\n\n".join([*parts, "\n".join(map(dataset_entry, schema.SCHEMA))]) + "\n"


def dataset_entry(spec: schema.DatasetSpec) -> str:
    """One dataset: name, axes with their lengths, dtype, meaning, and the attributes that say something."""
    axes = ", ".join(
        f"{axis} {length}" if isinstance(length, int) else axis
        for axis, length in zip(spec.axes.split(","), spec.shape)
    )
    words = {"units": spec.units, "range": spec.range, "space": spec.space, "color space": spec.color_space}
    said = "; ".join(f"{k}: {v}" for k, v in words.items() if v not in ("1", "real", "none"))
    text = f"[{axes}], {DTYPES[spec.dtype]}. {sentence(spec.description)}" + (f" ({said})" if said else "")
    return entry(f"`{spec.name}`", text)


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name in code, and a period."""
    return (text if re.match(r"\w*_", text) else text[0].upper() + text[1:]).rstrip(".") + "."


def prose(text: str) -> str:
    """A docstring as Markdown: its paragraphs wrapped, its indented blocks as they are."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "`"))
    return "\n\n".join(p if p.startswith(" ") else filled(p.replace("\n", " ")) for p in paragraphs)


def api_page() -> str:
    """The reference of the public names."""
    parts = [
        "# Python reference",
        NOTE + " Its source are the docstrings of the names in `lift3d/__init__.py`, in their order.",
        'Shapes are written as in `Float[Tensor, "v h w 3"]`: dtype, and the names of the axes.',
    ]
    for name in lift3d.__all__:
        parts += list(api_parts(name, getattr(lift3d, name)))
    return "\n\n".join(parts) + "\n"


def api_parts(name: str, value: object) -> Iterator[str]:
    """Heading, signature, docstring and public methods of one name."""
    yield f"## `lift3d.{name}`"
    if not callable(value):
        yield "One of: " + ", ".join(f"`{key}`" for key in value) + "."
        return
    if not (inspect.isclass(value) and issubclass(value, Exception)):
        yield signature(name, value)
    if (text := inspect.getdoc(value)) and not text.startswith(f"{name}("):
        yield prose(text)
    if inspect.isclass(value):
        if is_dataclass(value):
            yield filled("Fields: " + ", ".join(f"`{field.name}`" for field in fields(value)) + ".")
        methods = [
            entry(f"`{key}{call}`:", first_paragraph(member)) for key, call, member in public_members(value)
        ]
        if methods:
            yield "\n".join(methods)


def public_members(kind: type) -> Iterator[tuple[str, str, Callable]]:
    """Name, arguments ("" for properties) and function of documented members, those of base classes too."""
    seen = set()
    for base in (base for base in kind.__mro__ if base.__module__.startswith("lift3d")):
        for key, member in vars(base).items():
            function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
            if key.startswith("_") or key in seen or not (inspect.isfunction(function) and function.__doc__):
                continue
            seen.add(key)
            call = "" if hasattr(member, "fget") else arguments(getattr(kind, key), member is function)
            yield key, call, function


def first_paragraph(member: object) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(inspect.getdoc(member).split("\n\n")[0].split()).replace("``", "`")


def arguments(value: Callable, method: bool = False) -> str:
    """The arguments without annotations, without ``self`` of a method, defaults only where they are plain."""
    parameters = list(inspect.signature(value).parameters.values())[method:]
    words = [str(p.replace(annotation=p.empty)) for p in parameters]
    return f"({', '.join(word.split('=')[0] + '=…' if '<' in word else word for word in words)})"


def signature(name: str, value: Callable) -> str:
    """Name and arguments as a block of code."""
    return textwrap.fill(name + arguments(value), WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)


TABLES = {  # of a category's file
    "The preset itself": settings.Preset,
    "[view_prior]": ViewPrior,
    "[light_prior]": LightPrior,
    "[joint], [[instance]]": settings.Schedule,
    "[refine]": settings.Refinement,
    "[shape], [material]": settings.FieldConfig,
    "[weights]": settings.LossWeights,
    "[rates]": settings.LearningRates,
    "[sampling]": SamplingConfig,
    "[batch]": settings.BatchConfig,
}


def settings_page() -> str:
    """All settings of a category, table by table."""
    intro = (
        "Ranges hold for each number of a list. Defaults are those of a file without base; with one, the "
        "base's values stand for what is not said. How to find values: [own-category.md](own-category.md)."
    )
    parts = [
        "# Settings",
        filled(NOTE + " Its source are the fields of `lift3d/config/schema.py`."),
        filled(intro),
    ]
    for heading, table in TABLES.items():
        lines = [setting_entry(f) for f in fields(table) if "setting" in f.metadata]
        parts += [f"## {heading}", sentence(prose(inspect.getdoc(table))), "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def setting_entry(field: Field) -> str:
    """One setting: name, unit, range, default, meaning."""
    about, default = field.metadata["setting"], field.default
    if default is MISSING:
        known = "must be given"
    else:
        known = "not given" if default is None else f"default {json.dumps(default)}"
    words = [about.unit, about.allowed, known]
    return entry(f"`{field.name}`", f"({'; '.join(word for word in words if word)}): {about.doc}")


PAGES = {"dataset.md": dataset_page, "api.md": api_page, "settings.md": settings_page}

if __name__ == "__main__":
    for page, make in PAGES.items():
        (DOCS / page).write_text(make(), encoding="utf-8")
        print(f"docs/{page}")
