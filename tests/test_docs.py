"""The docs say what is there: commands, options, links, generated pages, the README's Python as printed."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from PIL import Image

from lift3d.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "CITATION.cff"])
MAX_GIF = 1_000_000  # bytes
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(text: str) -> Iterator[list[str]]:
    """The words of every ``lift3d ...`` in a block or in code within a line."""
    code = re.findall(r"^ {4}(lift3d .+)$", text, re.M) + re.findall(r"`(lift3d [^`]+)`", text)
    for line in code:
        yield line.split("#")[0].split()[1:]


def problems(words: list[str]) -> Iterator[str]:
    """What of a command line does not exist."""
    command: click.Command = main
    while words and isinstance(command, click.Group) and re.fullmatch(r"[a-z]+", words[0]):
        if words[0] not in command.commands:
            yield f"no command {words[0]}"
            return
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    yield from (
        f"no option {word} of {command.name}" for word in words if word.startswith("--") and word not in known
    )


@each_page
def test_no_line_is_too_long(page: Path) -> None:
    long = [line for line in page.read_text().splitlines() if len(line) > 120]
    assert not long


@each_page
def test_every_command_and_option_exists(page: Path) -> None:
    found = [
        f"lift3d {' '.join(words)}: {p}" for words in commands(page.read_text()) for p in problems(words)
    ]
    assert not found


def test_unknown_commands_and_options_would_be_found() -> None:
    text = (
        "    lift3d sample --out a.h5 --nothing 3  # it\n`lift3d gan fly a.pkl`, `lift3d export a.h5 --out b`"
    )
    assert [list(problems(words)) for words in commands(text)] == [
        ["no option --nothing of sample"],
        ["no command fly"],
        [],
    ]
    assert len(list(commands((ROOT / "README.md").read_text()))) > 20


@each_page
def test_every_relative_link_exists(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    assert [link for link in links if "://" not in link and not (page.parent / link).exists()] == []


def test_the_first_picture_is_a_small_film() -> None:
    (name,) = re.findall(r"\((docs/images/.*\.gif)\)", (ROOT / "README.md").read_text())
    assert (ROOT / name).stat().st_size < MAX_GIF
    with Image.open(ROOT / name) as film:
        assert film.n_frames == 48 and film.size == (192, 192)


def test_the_quick_start_runs_as_printed(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    setting = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=setting, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "head.png") as picture:
        assert picture.size == (128, 128)
        assert len(picture.convert("RGB").getcolors(1 << 14)) > 1000
    assert (tmp_path / "head.glb").read_bytes()[:4] == b"glTF"


def test_generated_pages_are_current() -> None:
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stale = [name for name, make in module.PAGES.items() if (ROOT / "docs" / name).read_text() != make()]
    assert not stale, f"{stale}: run make docs"
