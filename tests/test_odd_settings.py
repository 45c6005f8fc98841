"""Settings that no program wrote, in TOML files and in models: endless numbers and nesting, wrong types."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lift3d.checkpoint import read_tensors
from lift3d.config.toml import read_category
from lift3d.errors import ConfigError, Lift3DError
from lift3d.gan.files.load import describe
from lift3d.gan.files.load import load as load_gan
from lift3d.model import load

HEAD = 'base = "demo"\nname = "mine"\n'
DIGITS = "9" * 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a={" * 900, "is nested too deeply|is not TOML"),
        ("a=[" * 9000, "is nested too deeply|is not TOML"),
        (HEAD + f"size = {DIGITS}", r"size is 9{60}\.\.\. \(400 characters\), expected"),
        (
            HEAD + f"n_code = {DIGITS}",
            r"n_code is 9{60}\.\.\. \(400 characters\), expected a number from 1 to",
        ),
        (HEAD + f"n_code = {2**63 - 1}", "n_code is 9223372036854775807, expected a number from 1 to 8,192"),
        (HEAD + f"truncation = {DIGITS}", "truncation is inf, expected a number from 0 to 1"),
        (HEAD + f"truncation = 1{'0' * 5000}", "is not TOML: Exceeds the limit"),
        (HEAD + f"radii = [{DIGITS}, 1, 1]", "radii is .inf, 1.0, 1.0., expected numbers from"),
        (HEAD + f"[joint]\nn_samples = {2**63 - 1}", "joint.n_samples is 9223372036854775807, expected"),
        (HEAD + f"[shape]\nn_hidden = {2**63 - 1}", "shape.n_hidden is 9223372036854775807, expected"),
        (HEAD + "truncation = nan", "truncation is nan, expected a number from 0 to 1"),
        (HEAD + "background = 1979-05-27", r"background is datetime.date\(1979, 5, 27\), expected float"),
        (HEAD + "size = true", "size is True, expected int"),
    ],
)
def test_toml(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence) as caught:
        read_category(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(path))


ODD = (2**63 - 1, -1, 0, 1.5, True, None, "x", [], {}, [[1]], int(DIGITS), float("nan"), float("inf"))


def altered(value: object, depth: int = 0) -> Iterator[object]:
    """A JSON value with each of its parts, to a depth of four, replaced by each of ``ODD`` or left out."""
    yield from ODD
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items if depth < 4 else ():
        for other in altered(part, depth + 1):
            copy = value.copy()
            copy[key] = other
            yield copy
        if isinstance(value, dict):
            yield {k: v for k, v in value.items() if k != key}


def refused(path: Path, read: object) -> str | None:
    """The sentence, or None if the file was taken."""
    try:
        read(path)
    except Lift3DError as error:
        text = str(error)
        assert "\n" not in text and len(text) < 1000, text
        return text
    return None


def write(path: Path, tensors: dict[str, torch.Tensor], about: object) -> None:
    """A file of lift3d with any text."""
    save_file(tensors, path, {"lift3d": about if isinstance(about, str) else json.dumps(about)})


def test_gan_files(tiny_gan: Path, tmp_path: Path) -> None:
    about, tensors = read_tensors(tiny_gan)
    few = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 0}  # settings are read first
    few["d.x"] = torch.zeros(1)
    for odd in [*altered(about)][::5]:
        write(tmp_path / "a", few, odd)
        refused(tmp_path / "a", describe)
    for key in ("w_dim", "z_dim", "n_mapping_layers", "c_dim", "image_channels"):
        write(tmp_path / "a", tensors, about | {"generator": about["generator"] | {key: 2**63 - 1}})
        assert f"{key} is 9223372036854775807, expected a whole number" in refused(tmp_path / "a", load_gan)


def test_model_files(tiny_model: Path, tmp_path: Path) -> None:
    about, tensors = read_tensors(tiny_model)
    few = dict(list(tensors.items())[:1])
    preset = json.loads(about["preset"])
    presets = (about | {"preset": json.dumps(odd)} for odd in [*altered(preset, 2)][::61])
    for odd in (*altered(about, 3), *presets):
        write(tmp_path / "a", few, odd)
        assert refused(tmp_path / "a", load)
    for key, value in {"n_code": 2**63 - 1, "size": int(DIGITS), "radii": {}, "joint": 3}.items():
        write(tmp_path / "a", tensors, about | {"preset": json.dumps(preset | {key: value})})
        assert key in refused(tmp_path / "a", load)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{" * 900, '{"a": 1' + "0" * 5000 + "}", "NaN", "[]", "", '"x"']
)
def test_texts_that_are_no_json_object(tmp_path: Path, text: str) -> None:
    write(tmp_path / "a", {"x": torch.zeros(1)}, text)
    assert refused(tmp_path / "a", load) and refused(tmp_path / "a", load_gan)
