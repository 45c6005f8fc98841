"""The house: lazy imports, packaging, types checked in tests, one command for all checks."""

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

import lift3d
from lift3d.scene.geometry import dot

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "h5py", "scipy", "skimage", "lpips", "trimesh", "PIL")


def run_python(code: str) -> str:
    """Standard output of a fresh interpreter, outside the repository."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def setup_arguments() -> dict[str, object]:
    """The arguments of ``setup()``."""
    code = "import json, runpy, setuptools; setuptools.setup = lambda **given: print(json.dumps(given))\n"
    return json.loads(run_python(f"{code}runpy.run_path({str(ROOT / 'setup.py')!r})"))


def requirement_name(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9_-]+", requirement)[0].lower()


@pytest.mark.parametrize(
    "arguments",
    [[], *([name] for name in ("pretrain", "sample", "export", "eval", "info", "verify", "gan", "prior"))],
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    out = run_python(
        "import sys; from lift3d.cli.main import main\n"
        f"main({[*arguments, '--help']}, prog_name='lift3d', standalone_mode=False)\n"
        f"print('heavy:', *[name for name in {HEAVY} if name in sys.modules])"
    )
    assert "Usage: lift3d" in out
    assert out.splitlines()[-1] == "heavy:"


def test_import_is_lazy_and_every_public_name_is_there() -> None:
    assert run_python("import lift3d, sys; print('torch' in sys.modules, lift3d.__version__)") == (
        f"False {lift3d.__version__}\n"
    )
    for name in lift3d.__all__:
        assert getattr(lift3d, name) is not None
        assert name in dir(lift3d)
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        _ = lift3d.lod


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/*.py")), ids=lambda path: path.stem)
def test_benchmarks_import_what_is_there(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lift3d":
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def test_packaging_lists_every_package_and_installs_no_other_top_level_one() -> None:
    mapping = setup_arguments()["package_dir"]
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in mapping.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    packages = setup_arguments()["packages"]
    assert set(packages) == found
    assert {name.split(".")[0] for name in packages} == {"lift3d"}
    for package, folder in mapping.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), (
                f"{path} is in a folder of {package} without __init__.py"
            )


def test_every_dependency_is_pinned_for_make() -> None:
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    required = [*setup_arguments()["install_requires"], *setup_arguments()["extras_require"]["dev"]]
    missing = {requirement_name(r) for r in required} - {name.lower() for name in pins}
    assert not missing


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert "make test" in lines and lines[-1] == "exec make test-blender"
    readme = (ROOT / "README.md").read_text()
    assert "make test" in readme and "make demo" in readme
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_shapes_are_checked_in_tests() -> None:
    with pytest.raises(TypeCheckError, match="lift3d.scene.geometry.dot"):
        dot(torch.zeros(2), torch.zeros(2))
    for package in ("cli.options", "export.hdf5.schema"):
        module = __import__(f"lift3d.{package}", fromlist=["x"])
        assert "jaxtyping" in type(module.__loader__).__module__, f"{package} escapes the import hook"


@pytest.mark.parametrize(
    "name", ["LICENSE", "NOTICE", "docs/method.md", "docs/experiments.md", "docs/own-category.md"]
)
def test_documents_are_there(name: str) -> None:
    assert (ROOT / name).stat().st_size > 500
