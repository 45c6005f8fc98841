"""GAN files of every kind, written by stand-ins of the original programs, and what is refused."""

import json
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import gan_files as files
import pytest
import torch
from safetensors.torch import save_file

import lift3d.gan
from lift3d.errors import CheckpointError, CorruptFile
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig
from lift3d.gan.files.load import FORMAT, describe, load, save_gan
from lift3d.gan.stylegan2 import Discriminator, Generator

G = GeneratorConfig((6, 5, 4), z_dim=5, w_dim=7, n_mapping_layers=2)
D = DiscriminatorConfig((6, 5, 4), mbstd_group_size=2)
ROS_G = replace(G, z_dim=7, demodulation_eps_per_input=True)
ROS_D = replace(D, mbstd_group_size=4)


def generator(config: GeneratorConfig = G, seed: int = 1) -> Generator:
    torch.manual_seed(seed)
    return files.scrambled(Generator(config), seed)


def discriminator(config: DiscriminatorConfig = D, seed: int = 2) -> Discriminator:
    torch.manual_seed(seed)
    return files.scrambled(Discriminator(config), seed)


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    """Equal settings and tensors, bit for bit."""
    ours, theirs = a.state_dict(), b.state_dict()
    equal = ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    return equal and a.config == b.config


@pytest.fixture
def write(tmp_path: Path):
    def write(content: bytes, name: str = "gan.pkl") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


# --- NVLabs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_nvlabs_architectures_and_protocols(write, architecture: str, protocol: int) -> None:
    g = generator(replace(G, architecture=architecture))
    d = discriminator(replace(D, architecture=architecture))
    value = files.snapshot(files.nvlabs_generator(g), files.nvlabs_discriminator(d))
    gan = load(write(files.dumps(value, protocol)))
    assert same(gan.generator, g) and same(gan.discriminator, d)
    assert (gan.kind, gan.notes) == ("nvlabs", ()) and torch.equal(gan.w_avg, g.mapping.w_avg)
    assert not any(p.requires_grad for n in (gan.generator, gan.discriminator) for p in n.parameters())


@pytest.mark.parametrize(
    ("g_changes", "d_changes"),
    [
        ({"c_dim": 3}, {"c_dim": 3}),
        ({"c_dim": 3}, {"c_dim": 3, "cmap_dim": 9, "n_mapping_layers": 3}),
        ({"conv_clamp": 256.0}, {"conv_clamp": 256.0, "mbstd_group_size": None}),
        ({"noise": False, "mapping_lr": 0.1}, {"mbstd_features": 0, "mbstd_group_size": None}),
        ({"image_channels": 1, "n_mapping_layers": 8}, {"image_channels": 1, "mbstd_features": 2}),
        ({"channels": (6, 5)}, {"channels": (6, 5)}),
    ],
)
def test_nvlabs_settings(write, g_changes: dict, d_changes: dict) -> None:
    g, d = generator(replace(G, **g_changes)), discriminator(replace(D, **d_changes))
    if not d.config.c_dim:
        d.config = replace(d.config, n_mapping_layers=8)
    expected = replace(d.config, cmap_dim=d.config.condition_features if d.config.c_dim else None)
    gan = load(
        write(
            files.dumps(files.snapshot(files.nvlabs_generator(g, fp16=True), files.nvlabs_discriminator(d)))
        )
    )
    assert same(gan.generator, g)
    assert gan.discriminator.config == expected
    d.config = expected
    assert same(gan.discriminator, d)


def test_nvlabs_frozen_discriminator_and_raw_generator(write) -> None:
    g, raw, d = generator(), generator(seed=3), discriminator()
    frozen = files.nvlabs_discriminator(d, frozen=1)
    assert frozen.child("b16.conv0").state["_buffers"].keys() == {"resample_filter", "weight", "bias"}
    path = write(files.dumps(files.snapshot(files.nvlabs_generator(g), frozen, files.nvlabs_generator(raw))))
    assert same(load(path).generator, g) and same(load(path).discriminator, d)
    assert same(load(path, average=False).generator, raw)


def test_nvlabs_generator_alone_and_half_precision(write) -> None:
    g = generator()
    assert same(load(write(files.dumps(files.nvlabs_generator(g)))).generator, g)
    half = files.nvlabs_generator(Generator(G).half())
    loaded = load(write(files.dumps(files.snapshot(half)))).generator
    assert {t.dtype for t in loaded.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    ("path", "attribute", "value", "sentence"),
    [
        (
            "synthesis.b8.conv0",
            "activation",
            "relu",
            r"synthesis.b8.conv0.activation = 'relu', where .* 'lrelu'",
        ),
        ("synthesis.b8.conv0", "conv_clamp", 1.0, r"b8.conv0.conv_clamp = 1.0, where StyleGAN2 has None"),
        ("synthesis.b8.conv1", "use_noise", False, r"use_noise = False, where StyleGAN2 has True"),
        ("synthesis.b8.torgb", "weight_gain", 1.0, r"torgb.weight_gain = 1.0"),
        ("synthesis.b8.conv1.affine", "weight_gain", 1.0, r"affine.weight_gain = 1.0"),
        (
            "synthesis.b16",
            "architecture",
            "resnet",
            r"b16.architecture = 'resnet', where StyleGAN2 has 'skip'",
        ),
        ("mapping.fc1", "bias_gain", 0.5, r"mapping.fc1.bias_gain = 0.5"),
        ("mapping", "num_layers", 3, r"has nothing as mapping.fc2"),
        ("mapping", "num_layers", 65, r"no usable mapping.num_layers, expected a number from 1 to 64"),
        ("mapping", "num_layers", 1, r"does not fit the network: missing nothing, unexpected mapping.fc1"),
        ("synthesis.b4.conv1", "up", (2, 2), r"conv1.up = a tuple"),
    ],
)
def test_other_arithmetic_is_refused(write, path: str, attribute: str, value: object, sentence: str) -> None:
    record = files.nvlabs_generator(generator())
    record.child(path).state[attribute] = value
    with pytest.raises(CheckpointError, match=sentence):
        load(write(files.dumps(files.snapshot(record))))


def test_incomplete_nvlabs_networks_are_refused(write) -> None:
    def refused(sentence: str, kind: type[Exception] = CheckpointError) -> None:
        with pytest.raises(kind, match=sentence):
            load(write(files.dumps(files.snapshot(record))))

    record = files.nvlabs_generator(generator())
    del record.child("synthesis.b8.conv0").state["_buffers"]["noise_const"]
    refused("missing synthesis.b8.conv0.noise_const, unexpected nothing")
    record = files.nvlabs_generator(generator())
    record.child("mapping").state["_buffers"]["w_avg"] = torch.zeros(6)
    refused(r"mapping.w_avg has shape \(6,\), the network expects \(7,\)")
    record.child("mapping").state["_buffers"]["w_avg"] = torch.zeros(7, dtype=torch.int64)
    refused("weights of type torch.int64, expected floating-point")
    record.child("mapping").state["_buffers"]["w_avg"] = torch.full((7,), torch.nan)
    refused("mapping.w_avg holds values that are not finite", CorruptFile)
    record = files.nvlabs_generator(generator())
    record.child("synthesis.b8").state["_buffers"]["resample_filter"] = torch.ones(4, 4) / 16
    refused(r"another resampling filter \(synthesis.b8.resample_filter\)")
    record = files.nvlabs_generator(generator())
    record.state["_modules"]["extra"] = record.child("mapping")
    refused("unexpected extra.fc0")
    record = files.nvlabs_generator(generator())
    record.state["img_resolution"] = 12
    refused("makes 12px images, expected a power of two")
    record.state["img_resolution"] = 1 << 20
    refused("no usable img_resolution, expected a number from 8 to 2048")
    record = files.nvlabs_generator(generator())
    record.meta["version"] = 7
    refused("unknown version of torch_utils.persistence, expected version 6")


# --- rosinality ----------------------------------------------------------------------------------------


def checkpoint(ema: Generator, d: Discriminator | None = None, **more: object) -> dict:
    critic = {} if d is None else {"d": files.rosinality_discriminator(d)}
    return {"g_ema": files.rosinality_generator(ema), **critic, **more}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("mean_shape", [(7,), (1, 7)])
def test_rosinality(write, legacy: bool, mean_shape: tuple[int, ...]) -> None:
    g, raw = generator(ROS_G), generator(ROS_G, seed=3)
    d = discriminator(replace(ROS_D, channels=(6, 5, 3)))
    optimizer = torch.optim.Adam(raw.parameters()).state_dict()
    value = checkpoint(
        g,
        d,
        latent_avg=g.mapping.w_avg.reshape(mean_shape),
        g=files.rosinality_generator(raw),
        args=files.training_arguments(),
        g_optim=optimizer,
        ada_aug_p=0.25,
    )
    path = write(files.saved(value, legacy), "gan.pt")
    gan = load(path)
    assert same(gan.generator, g) and same(gan.discriminator, d)
    assert (gan.kind, gan.notes) == ("rosinality", ())
    raw.mapping.w_avg.copy_(g.mapping.w_avg)
    assert same(load(path, average=False).generator, raw)


def test_rosinality_state_dict_alone_lacks_the_mean(write) -> None:
    g = generator(ROS_G)
    with pytest.warns(UserWarning, match="gan.pt has no latent_avg: the mean of w was estimated"):
        gan = load(write(files.saved(files.rosinality_generator(g)), "gan.pt"))
    assert gan.discriminator is None
    z = torch.randn(20_000, 7)
    assert torch.allclose(gan.w_avg, g.mapping(z).mean(dim=0), atol=0.05 * g.mapping(z).std())
    gan.generator.mapping.w_avg.copy_(g.mapping.w_avg)
    assert same(gan.generator, g)


def test_rosinality_without_noise_maps(write) -> None:
    g = generator(ROS_G)
    value = {"g_ema": files.rosinality_generator(g, noises=False), "latent_avg": g.mapping.w_avg}
    path = write(files.saved(value), "gan.pt")
    with pytest.warns(UserWarning, match="no noise maps: zeros"):
        gan = load(path)
    z = torch.randn(2, 7)
    expected = g(z, noise_mode="none")
    assert torch.equal(gan.generator(z, noise_mode="const"), expected)
    assert describe(path).notes == gan.notes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("convs.1.activate.bias"), "has no convs.1.activate.bias: it is incomplete"),
        (lambda s: s.pop("noises.noise_2"), "missing synthesis.b8.conv1.noise_const"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 tensors in its generator .* \(extra\)"),
        (lambda s: s.update({"conv1.conv.weight": torch.zeros(6, 6, 3, 3)}), "no usable conv1.conv.weight"),
        (
            lambda s: s.update({"conv1.conv.weight": torch.zeros(2, 6, 6, 3, 3)}),
            "shape 2 x 6 x 6 x 3 x 3, expected length 1",
        ),
        (lambda s: s.update({"style.2.bias": torch.zeros(8)}), r"mapping.fc1.bias has shape \(8,\)"),
        (lambda s: s.update({"convs.0.conv.blur.kernel": files.FIR}), "another resampling filter"),
        (lambda s: s.clear(), "has no to_rgbs.0.conv.weight|is a checkpoint of something else"),
    ],
)
def test_incomplete_rosinality_networks_are_refused(write, change, sentence: str) -> None:
    value = checkpoint(generator(ROS_G))
    change(value["g_ema"])
    with pytest.raises(CheckpointError, match=sentence):
        load(write(files.saved(value), "gan.pt"))


def test_half_precision_of_every_float_type(write) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        g = generator(ROS_G)
        rounded = {k: t.to(dtype) for k, t in files.rosinality_generator(g).items()}
        value = {"g_ema": rounded, "latent_avg": g.mapping.w_avg.to(dtype)}
        for name, tensor in g.state_dict().items():
            g.state_dict()[name].copy_(tensor.to(dtype))
        assert same(load(write(files.saved(value), "gan.pt")).generator, g)


# --- native --------------------------------------------------------------------------------------------


def test_conversion_is_exact_and_keeps_its_origin(write, tmp_path: Path) -> None:
    g, d = generator(replace(G, conv_clamp=256.0, architecture="resnet")), discriminator()
    original = load(
        write(files.dumps(files.snapshot(files.nvlabs_generator(g), files.nvlabs_discriminator(d))))
    )
    path = tmp_path / "gan.safetensors"
    save_gan(path, original.generator, original.discriminator, original.license, torch.float32, "gan.pkl")
    gan = lift3d.gan.load(path)
    assert same(gan.generator, g) and same(gan.discriminator, d)
    about = describe(path)
    assert (gan.kind, gan.license, about.source) == ("lift3d", original.license, "gan.pkl")
    assert "non-commercial" in gan.license
    save_gan(path, g)
    assert load(path).discriminator is None
    assert torch.equal(load(path).generator.synthesis.b4.const, g.synthesis.b4.const.half().float())
    with pytest.raises(CheckpointError, match="holds only the averaged generator: leave out --raw"):
        load(path, average=False)
    g.synthesis.b4.const.fill_(1e6)
    with pytest.raises(CheckpointError, match="g.synthesis.b4.const exceeds torch.float16; choose float32"):
        save_gan(path, g)


def test_descriptions(write, tmp_path: Path) -> None:
    g, d = generator(replace(G, c_dim=3)), discriminator(replace(D, c_dim=3))
    about = describe(
        write(files.dumps(files.snapshot(files.nvlabs_generator(g), files.nvlabs_discriminator(d))))
    )
    assert (about.kind, about.resolution, about.channels, about.discriminator) == (
        "nvlabs",
        16,
        (6, 5, 4),
        True,
    )
    assert (about.z_dim, about.w_dim, about.c_dim, about.n_mapping_layers, about.architecture) == (
        5,
        7,
        3,
        2,
        "skip",
    )
    about = describe(write(files.saved(checkpoint(generator(ROS_G))), "gan.pt"))
    assert (about.kind, about.discriminator, about.c_dim, len(about.notes)) == ("rosinality", False, 0, 1)
    save_gan(tmp_path / "a.safetensors", generator(), license="CC0-1.0")
    about = describe(tmp_path / "a.safetensors")
    assert (about.kind, about.license, about.discriminator) == ("lift3d", "CC0-1.0", False)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"n_mapping_layers": 10**9}, "n_mapping_layers is 1000000000, expected a whole number from 1 to 64"),
        ({"channels": [10**30, 4]}, "a width in channels is 1000"),
        ({"channels": [4] * 30}, "channels has 30 widths"),
        ({"channels": 7}, "GeneratorConfig has no 'channels'"),
        ({"channels": ["a", [[]]]}, "a width in channels is 'a'"),
        ({"architecture": [1]}, "architecture is a list, expected 'skip'"),
        ({"mapping_lr": "x"}, "mapping_lr is 'x', expected a positive number"),
        ({"conv_clamp": float("nan")}, "conv_clamp is nan"),
        ({"w_dim": 8}, r"mapping.fc0.bias has shape \(7,\), the network expects \(8,\)"),
        ({"color": 1}, "GeneratorConfig has unknown color"),
    ],
)
def test_native_files_with_other_configurations_are_refused(
    tmp_path: Path, change: dict, sentence: str
) -> None:
    save_gan(tmp_path / "a.safetensors", generator(), dtype=torch.float32)
    g = generator()
    config = {"channels": [6, 5, 4], "z_dim": 5, "w_dim": 7, "n_mapping_layers": 2, **change}
    about = {"format": FORMAT, "generator": config}
    tensors = {f"g.{k}": t.contiguous() for k, t in g.state_dict().items()}
    save_file(tensors, tmp_path / "b.safetensors", {"lift3d": json.dumps(about)})
    with pytest.raises(CheckpointError, match=sentence):
        load(tmp_path / "b.safetensors")


# --- other kinds ---------------------------------------------------------------------------------------


def test_other_kinds_are_named_with_their_remedy(write, tmp_path: Path, tiny_model: Path) -> None:
    def refused(content: bytes | Path, sentence: str, kind: type[Exception] = CheckpointError) -> None:
        path = content if isinstance(content, Path) else write(content, "file")
        for read in (load, describe):
            with pytest.raises(kind, match=sentence) as caught:
                read(path)
            assert "\n" not in str(caught.value) and str(caught.value).startswith(str(path))

    network = files.Network(version=4, static_kwargs=files.EasyDict(), variables=[])
    for protocol in (2, 4):
        refused(
            files.dumps((network,) * 3, protocol),
            r"is a TensorFlow pickle: convert it with `python legacy.py",
        )
    other = files.Stored("TriPlaneGenerator", {}, {}, img_resolution=64)
    refused(files.dumps(files.snapshot(other)), "is a 'TriPlaneGenerator', no StyleGAN2 generator")
    refused(
        files.dumps(files.snapshot(files.nvlabs_generator(generator()), other)),
        "has a D that is no StyleGAN2",
    )
    refused(files.dumps(files.snapshot(None)), "has no G_ema, the generator: give a complete snapshot")
    refused(files.dumps({"weights": 1}), "is a pickle of something else than a GAN")
    refused(files.dumps([1, 2]), "is a pickle of something else than a GAN")

    classifier = torch.nn.Linear(3, 2)
    refused(files.saved(classifier.state_dict()), "something else than StyleGAN2, such as a classifier")
    refused(
        files.saved(classifier.state_dict(), legacy=True),
        "something else than StyleGAN2, such as a classifier",
    )
    refused(
        files.saved(classifier),
        r"is a whole network saved as a Python object \(torch.nn.modules.linear.Linear\)",
    )
    refused(files.saved({"g_ema": classifier.state_dict()}), "has no to_rgbs.0.conv.weight")
    refused(files.saved({"g": 1}), "has no g_ema, the generator's state dict")
    with zipfile.ZipFile(tmp_path / "script.zip", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
        archive.writestr("net/constants.pkl", b"\x80\x02).")
    refused(tmp_path / "script.zip", "is a TorchScript program, such as a classifier")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    refused(tmp_path / "other.zip", "is a zip archive, but not one of PyTorch")

    refused(tiny_model, "has format 'lift3d.lifted/2', expected 'lift3d.gan/2': it is a lifted 3D model")
    save_file(
        {"x": torch.zeros(1)}, tmp_path / "c", {"lift3d": json.dumps({"format": "lift3d.gan-training/2"})}
    )
    refused(tmp_path / "c", "it is a training checkpoint; give the network-")
    save_file({"x": torch.zeros(1)}, tmp_path / "d")
    refused(tmp_path / "d", "was not written by lift3d")
    refused(tmp_path / "absent", "does not exist")
    refused(tmp_path, "is no file")
    refused(b"", "is truncated or not a safetensors file", CorruptFile)
    refused(b"\n<!DOCTYPE html>", "it is a web page, so download the file itself", CorruptFile)
    refused(b"version https://git-lfs.github.com/spec/v1\n", "run `git lfs pull`", CorruptFile)
    refused(b"\x1f\x8b\x08", "it is a packed archive, so unpack it", CorruptFile)
    refused(b"\x89HDF\r\n\x1a\n", "it is an HDF5 file", CorruptFile)


def test_truncated_files(write) -> None:
    g = generator(ROS_G)
    contents = (
        files.dumps(files.snapshot(files.nvlabs_generator(generator()))),
        files.saved(checkpoint(g)),
        files.saved(checkpoint(g), legacy=True),
    )
    for content in contents:
        for share in (0.1, 0.5, 0.9, 0.999):
            with pytest.raises(CorruptFile, match=r"is (truncated|damaged)"):
                load(write(content[: int(len(content) * share)]))


def test_memory_is_three_times_the_file(tmp_path: Path) -> None:
    g = Generator(GeneratorConfig((256, 256), 512, 512)).half()
    contents = {
        "pickle": files.dumps(files.snapshot(files.nvlabs_generator(g))),
        "archive": files.saved({"g_ema": files.rosinality_generator(g), "latent_avg": g.mapping.w_avg}),
        "legacy": files.saved(
            {"g_ema": files.rosinality_generator(g), "latent_avg": g.mapping.w_avg}, legacy=True
        ),
    }
    save_gan(tmp_path / "native", g)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    small = files.dumps(files.snapshot(files.nvlabs_generator(generator())))
    (tmp_path / "first").write_bytes(small)
    names = ["first", *contents, "native", *contents, "native"]
    script = Path(__file__).parents[1] / "gan_probe.py"
    paths = [tmp_path / name for name in names]
    done = subprocess.run(
        [sys.executable, script, *paths], capture_output=True, text=True, timeout=600, check=True
    )
    report = json.loads(done.stdout)
    assert [result["outcome"] for result in report["results"]] == ["loaded"] * len(names)
    for result in report["results"]:
        assert result["peak"] - report["memory"] <= 3 * result["size"] + 20e6, result


def test_a_lifted_model_is_not_read_from_a_pickle(write) -> None:
    from lift3d.model import LiftedGAN

    path = write(pickle.dumps({}))
    with pytest.raises(
        CheckpointError, match="is a pickle or PyTorch checkpoint, expected a safetensors file"
    ):
        LiftedGAN.load(path)
