"""Files that appear whole: names, links, devices, failures, and two writers at once."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lift3d.errors import ConfigError
from lift3d.whole_file import move_into_place, replacing, replacing_folder


def write(path: Path, data: bytes, overwrite: bool = True) -> None:
    with replacing(path, overwrite) as file:
        file.write(data)


@pytest.mark.parametrize("overwrite", [True, False])
def test_names_as_long_as_the_system_allows(tmp_path: Path, overwrite: bool) -> None:
    path = tmp_path / ("n" * 255)
    write(path, b"whole", overwrite)
    assert path.read_bytes() == b"whole" and list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    with pytest.raises(FileExistsError):
        write(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed(tmp_path: Path) -> None:
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to("target")
    for data in (b"first", b"second"):  # the target is missing, then there
        write(link, data)
        assert link.is_symlink() and target.read_bytes() == data and not target.is_symlink()


@pytest.mark.parametrize("overwrite", [True, False])
def test_devices_pipes_and_folders_are_not_replaced(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "link", "folder", "/dev/null"):
        with pytest.raises(
            ConfigError, match=f"{name} is no regular file and is not replaced; choose another"
        ):
            write(tmp_path / name, b"x", overwrite)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link", "folder"}


def test_one_of_many_writers_at_once_makes_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def attempt(i: int) -> bytes | None:
        try:
            write(path, bytes([i]) * 100_000, overwrite=False)
        except FileExistsError:
            return None
        return bytes([i]) * 100_000

    with ThreadPoolExecutor(8) as pool:
        written = [data for data in pool.map(attempt, range(8)) if data]
    assert [path.read_bytes()] == written and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP"])
def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, code), code)

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "file", b"whole", overwrite=False)
    with pytest.raises(OSError, match=code):
        write(tmp_path / "file", b"other", overwrite=False)
    assert (tmp_path / "file").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_folders_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with pytest.raises(ZeroDivisionError):
        with replacing_folder(path, lambda _: True) as folder:
            (folder / "a").write_text("a")
            raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with replacing_folder(path, lambda _: True) as folder:
            (folder / text).write_text(text)
            assert not (path / text).exists()
        assert [file.name for file in path.iterdir()] == [text] and list(tmp_path.iterdir()) == [path]


def test_folders_that_are_not_replaced(tmp_path: Path) -> None:
    for name, make in (
        ("file", lambda p: p.write_text("x")),
        ("full", lambda p: (p.mkdir(), (p / "x").touch())),
    ):
        make(tmp_path / name)
        with pytest.raises(ConfigError, match=f"{name} is there and is not replaced; choose another path"):
            with replacing_folder(tmp_path / name, lambda _: False):
                raise AssertionError
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    with replacing_folder(tmp_path / "link", lambda _: False) as folder:
        (folder / "a").touch()
    assert (tmp_path / "link").is_symlink() and (tmp_path / "empty" / "a").exists()
    with pytest.raises(ConfigError, match="late is there and is not replaced"):  # filled by someone meanwhile
        with replacing_folder(tmp_path / "late", lambda _: False):
            (tmp_path / "late").mkdir()
            (tmp_path / "late" / "x").touch()
    assert (tmp_path / "late" / "x").exists()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


def test_a_file_that_arrived_bit_by_bit_is_moved(tmp_path: Path) -> None:
    part, link, target = (tmp_path / name for name in ("part", "link", "target"))
    link.symlink_to("target")
    for data in (b"first", b"second"):
        part.write_bytes(data)
        move_into_place(part, link)
        assert link.is_symlink() and target.read_bytes() == data and not part.exists()
    part.write_bytes(b"third")
    with pytest.raises(ConfigError, match="/dev/null is no regular file and is not replaced"):
        move_into_place(part, "/dev/null")
    assert part.read_bytes() == b"third"
