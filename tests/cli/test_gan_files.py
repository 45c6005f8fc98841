"""``lift3d gan convert`` and ``lift3d gan sample`` on files of other programs."""

import json
from dataclasses import asdict
from pathlib import Path

import gan_files as files
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from lift3d.cli.main import main
from lift3d.gan import describe, load
from lift3d.gan.alias_free import AliasFreeConfig
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.stylegan2 import Discriminator, Generator
from lift3d.gan.stylegan3 import AliasFreeGenerator

G = GeneratorConfig((4, 3), z_dim=5, w_dim=5, n_mapping_layers=2)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["gan", *map(str, arguments)])


def failure(*arguments: object) -> str:
    """The one sentence of a command that fails."""
    result = run(*arguments)
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
    return result.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an NVLabs file (with classes and without) and a rosinality file."""
    monkeypatch.chdir(tmp_path)
    g, d = files.scrambled(Generator(G)), files.scrambled(Discriminator(DiscriminatorConfig((4, 3))))
    raw = files.scrambled(Generator(G), seed=9)
    record = files.snapshot(
        files.nvlabs_generator(g), files.nvlabs_discriminator(d), files.nvlabs_generator(raw)
    )
    Path("nv.pkl").write_bytes(files.dumps(record))
    classes = files.scrambled(Generator(GeneratorConfig((4, 3), 5, 5, c_dim=3, n_mapping_layers=2)))
    Path("classes.pkl").write_bytes(files.dumps(files.snapshot(files.nvlabs_generator(classes))))
    Path("ros.pt").write_bytes(files.saved({"g_ema": files.rosinality_generator(g)}))
    return tmp_path


def pixels(name: str) -> np.ndarray:
    with Image.open(name) as image:
        return np.asarray(image)


def test_convert_keeps_every_number_and_says_what_it_found(folder: Path) -> None:
    result = run("convert", "nv.pkl", "gan.safetensors")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "gan.safetensors: 8px StyleGAN2 and its discriminator, from nvlabs; license: none"
    )
    one, two = load("nv.pkl"), load("gan.safetensors")
    for ours, theirs in ((one.generator, two.generator), (one.discriminator, two.discriminator)):
        states = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(states[0][k], states[1][k]) for k in states[0] | states[1])
    assert describe("gan.safetensors").source == "nv.pkl"
    assert "gan.safetensors exists; --overwrite replaces it" in failure(
        "convert", "nv.pkl", "gan.safetensors"
    )
    assert run("convert", "nv.pkl", "gan.safetensors", "--overwrite", "--half", "--raw").exit_code == 0
    half = load("gan.safetensors").generator.synthesis.b4.const
    raw = load("nv.pkl", average=False).generator.synthesis.b4.const
    assert torch.equal(half, raw.half().float())
    assert "expected a name that ends in .safetensors" in failure("convert", "nv.pkl", "gan.pkl")
    assert "has no g, the generator's state dict" in failure("convert", "ros.pt", "b.safetensors", "--raw")


def test_what_a_file_lacks_is_said(folder: Path) -> None:
    result = run("convert", "ros.pt", "ros.safetensors")
    assert result.exit_code == 0
    assert "8px StyleGAN2 and no discriminator, from rosinality" in result.stdout
    assert result.stderr == "ros.pt has no latent_avg: the mean of w was estimated from 4096 samples\n"
    assert torch.equal(load("ros.safetensors").w_avg, load("ros.safetensors").generator.mapping.w_avg)


def test_samples_depend_on_their_seed_alone(folder: Path) -> None:
    assert (
        run("sample", "nv.pkl", "--seeds", "0-9", "--out", "a.png", "--columns", "5").stdout
        == "a.png: 10 samples\n"
    )
    assert run("sample", "nv.pkl", "--seeds", "7", "--out", "b.png").exit_code == 0
    all_seeds, one = pixels("a.png"), pixels("b.png")
    assert (all_seeds.shape, one.shape) == ((22, 52, 3), (12, 12, 3))
    assert np.array_equal(all_seeds[12:20, 22:30], one[2:10, 2:10])
    assert run("sample", "nv.pkl", "--seeds", "7,7", "--trunc", "0", "--out", "c.png").exit_code == 0
    means = pixels("c.png")
    assert np.array_equal(means[2:10, 2:10], means[2:10, 12:20])
    assert not np.array_equal(means[2:10, 2:10], one[2:10, 2:10])


def test_classes(folder: Path) -> None:
    for label in (0, 2):
        arguments = ("--seeds", "1", "--class", label, "--out", f"{label}.png")
        assert run("sample", "classes.pkl", *arguments).exit_code == 0
    assert not np.array_equal(pixels("0.png"), pixels("2.png"))
    assert "--class is not given, expected 0 to 2" in failure("sample", "classes.pkl", "--out", "a.png")
    assert "--class is 3, expected 0 to 2" in failure("sample", "classes.pkl", "--class", 3, "--out", "a.png")
    assert "none: this GAN has no classes" in failure("sample", "nv.pkl", "--class", 0, "--out", "a.png")


@pytest.mark.parametrize("seeds", ["", "a", "3-1", "-1", "0-10000", "1,,2", "0-5000,0-5000"])
def test_bad_seeds(folder: Path, seeds: str) -> None:
    message = failure("sample", "nv.pkl", "--seeds", seeds, "--out", "a.png")
    assert f"--seeds is {seeds!r}, expected up to 10,000 numbers such as 3 or 0-9,12" in message
    assert "--trunc is nan" in failure("sample", "nv.pkl", "--trunc", "nan", "--out", "a.png")


def test_a_run_grows_from_the_folder_of_a_smaller_one(folder: Path) -> None:
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8))
    small = ("--channels", 64, 8, "--latent", 8, "--mapping-layers", 1, "--batch", 4, "--kimg", 0.004)
    first = run("train", "images.npy", "--out", "small", "--resolution", 8, *small, "--ema-kimg", 0.01)
    assert first.exit_code == 0, first.output
    second = run("train", "images.npy", "--out", "large", "--resolution", 16, *small, "--grow-from", "small")
    assert second.exit_code == 0, second.output
    assert "tensors taken from small/checkpoint.safetensors" in second.stderr


def info(file: str) -> str:
    result = CliRunner().invoke(main, ["info", file])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("name", ["nv.pkl", "classes.pkl", "ros.pt", "gan.safetensors"])
def test_info_says_what_a_gan_file_is(folder: Path, name: str) -> None:
    run("convert", "nv.pkl", "gan.safetensors")
    about = json.loads(CliRunner().invoke(main, ["info", name, "--json"]).stdout)
    expected = json.loads(json.dumps(asdict(describe(name))))
    assert about == expected and about["resolution"] == 8
    lines = info(name).splitlines()
    said = {line[:14].strip(): line[15:] for line in lines[1:]}
    assert lines[0].startswith(f"{name}: StyleGAN2, 8 x 8 pixels, ")
    kind = {"nv.pkl": "nvlabs", "classes.pkl": "nvlabs", "ros.pt": "rosinality", "gan.safetensors": "lift3d"}
    assert said["kind"] == kind[name]
    assert said["channels"] == "4, 3 (4 to 8 pixels)"
    assert said["latents"] == "z 5, w 5, 2 mapping layers"
    assert said["conditional"] == ("yes, 3 numbers" if name == "classes.pkl" else "no")
    complete = name in ("nv.pkl", "gan.safetensors")
    assert said["discriminator"] == ("there" if complete else "missing: features of another network stand in")
    assert said["source"] == ("nv.pkl" if name == "gan.safetensors" else "not stated")
    assert said["license"].startswith("none stated; ")
    assert ("note" in said) == (name == "ros.pt")


def test_info_of_a_damaged_gan_file_is_one_sentence(folder: Path) -> None:
    Path("cut.pkl").write_bytes(Path("nv.pkl").read_bytes()[:500])
    result = CliRunner().invoke(main, ["info", "cut.pkl"])
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "cut.pkl is truncated" in result.stderr or "cut.pkl is damaged" in result.stderr


# --- StyleGAN3 -----------------------------------------------------------------------------------------


@pytest.fixture
def alias_free(folder: Path) -> str:
    """A file of configuration R."""
    config = AliasFreeConfig((6, 6, 4), 16, 5, 5, conv_size=1, radial=True, margin=4)
    record = files.alias_free_generator(files.scrambled(AliasFreeGenerator(config)))
    critic = files.scrambled(Discriminator(DiscriminatorConfig((4, 3, 3))))
    Path("r.pkl").write_bytes(files.dumps(files.snapshot(record, files.nvlabs_discriminator(critic))))
    return "r.pkl"


def test_alias_free_files_are_shown_and_converted(alias_free: str) -> None:
    lines = info(alias_free).splitlines()
    assert lines[0].startswith("r.pkl: StyleGAN3, 16 x 16 pixels, ")
    said = {line[:14].strip(): line[15:] for line in lines[1:]}
    assert (said["channels"], said["architecture"]) == ("6, 6, 4 (layer by layer)", "R")
    result = run("convert", alias_free, "r.safetensors")
    assert "r.safetensors: 16px StyleGAN3 and its discriminator, from nvlabs; license: none" in result.stdout
    z = torch.randn(2, 5)
    assert torch.equal(load("r.safetensors").generator(z), load(alias_free).generator(z))
    assert (
        json.loads(CliRunner().invoke(main, ["info", "r.safetensors", "--json"]).stdout)["kind"] == "lift3d"
    )


def test_alias_free_samples_move_and_turn(alias_free: str) -> None:
    def drawn(*options: object) -> np.ndarray:
        result = run("sample", alias_free, "--seeds", 3, "--out", "a.png", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        return pixels("a.png")[2:18, 2:18].astype(int)

    still = drawn()
    assert np.abs(drawn("--rotate", 90) - np.rot90(still)).max() <= 1
    assert np.array_equal(drawn("--translate", "0,0"), still)
    both = drawn("--translate", "-0.25,0", "--rotate", 90)
    assert np.abs(both - np.rot90(still)).max() > 5
    refused = ("--seeds", 3, "--out", "b.png")
    assert "expected two numbers like 0.1,-0.2" in failure("sample", alias_free, *refused, "--translate", "a")
    assert "is not finite" in failure("sample", alias_free, *refused, "--rotate", "inf")
    message = failure("sample", "nv.pkl", *refused, "--rotate", 10)
    assert "--translate and --rotate move the input of a StyleGAN3, but this GAN is a StyleGAN2" in message
