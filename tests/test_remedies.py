"""What messages, help and docstrings tell a user to type exists: commands, and options of these commands."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lift3d.cli.main import main

ROOT = Path(__file__).parent.parent
FOREIGN = {  # of Blender, and of the converter of TensorFlow pickles
    "--background", "--factory-startup", "--python", "--python-exit-code", "--source", "--dest",
}  # fmt: skip
COMMAND = r"(`|\b(?:use|run|try) )?\blift3d ([a-z]+)(?: ([a-z]+))?((?: --[a-z-]+)*)"


def commands(group: click.Group, name: str = "lift3d") -> Iterator[tuple[str, click.Command]]:
    """Every command by what a user types, groups included."""
    yield name, group
    for part, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {part}")
        else:
            yield f"{name} {part}", command


COMMANDS = dict(commands(main))
OPTIONS = {
    name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    for name, command in COMMANDS.items()
}
ANY_OPTION = set().union(*OPTIONS.values(), {"--help", "--version"}, FOREIGN)


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of all string literals; an f-string is one text, with {} for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def wrong(text: str) -> Iterator[str]:
    """Commands and options in a text that do not exist."""
    for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text):
        if option not in ANY_OPTION:
            yield option
    for said, first, second, options in re.findall(COMMAND, text):
        command = next((n for n in (f"lift3d {first} {second}", f"lift3d {first}") if n in COMMANDS), None)
        if command is None and said:  # else a sentence about lift3d
            yield f"lift3d {first}"
        elif command is not None:
            yield from (f"{command} {o}" for o in options.split() if o not in OPTIONS[command])


FILES = [path for folder in ("lift3d", "export", "cli") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_options_in_strings_exist(path: Path) -> None:
    own = {text for _, text in strings(path) if re.fullmatch("--[a-z-]+", text)}  # a script's with argparse
    own = own if "argparse" in path.read_text(encoding="utf-8") else set()
    found = [f"{path}:{line}: {bad}" for line, text in strings(path) for bad in wrong(text) if bad not in own]
    assert not found, "\n".join(found)


def test_the_scan_finds_what_is_wrong() -> None:
    assert [*wrong("use `lift3d frobnicate`")] == ["lift3d frobnicate"]
    assert [*wrong("run lift3d pretrain --gan FILE")] == []
    assert [*wrong("run `lift3d pretrain --views`")] == ["lift3d pretrain --views"]
    assert [*wrong("give --no-such-thing")] == ["--no-such-thing"]
