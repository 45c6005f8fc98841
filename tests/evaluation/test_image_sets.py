"""Distances between sets of images: FID and KID are those of torch-fidelity, others are not called so."""

import json
import pickle
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from click.testing import CliRunner
from tiny_gan import PRESET, tiny_gan
from torch import Tensor

from lift3d.cli.main import main
from lift3d.errors import BackendUnavailable, CheckpointError, ConfigError, CorruptFile
from lift3d.evaluation import image_sets
from lift3d.evaluation.image_sets import (
    compare_image_sets,
    drawn_sets,
    frechet_distance,
    inception_features,
    kernel_distance,
)
from lift3d.gan.training.feature_distance import random_features
from lift3d.model import LiftedGAN
from lift3d.observer import SilentObserver
from lift3d.scene.images import images_to_colors, to_bytes
from lift3d.seeds import STREAMS

SETS = ["other samples", "renders", "projections", "renders, turned", "projections, turned"]
FIRST = STREAMS["relighting"].start


class Notes(SilentObserver):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture(scope="module")
def model() -> LiftedGAN:
    torch.manual_seed(0)
    return LiftedGAN(PRESET, tiny_gan().generator).requires_grad_(False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tensors of Inception-v3, each with one random number per output channel: 0.5 MB instead of 95. The
    network sees 75 pixels instead of 299.
    """
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    extractor.FeatureExtractorInceptionV3.INPUT_IMAGE_SIZE = 75
    with patch.object(extractor, "load_state_dict_from_url", return_value={}):
        network = extractor.FeatureExtractorInceptionV3
        with patch.object(network, "load_state_dict"):
            shapes = {name: x.shape for name, x in network("stand-in", ["2048"]).state_dict().items()}
    torch.manual_seed(1)

    def tensor(name: str, shape: torch.Size) -> Tensor:
        if len(shape) < 2:
            return torch.ones(shape) if name.endswith(("var", "weight")) else torch.zeros(shape)
        return (
            (2.5 * torch.randn(shape[0]) / shape[1:].numel()).view(-1, *[1] * (len(shape) - 1)).expand(shape)
        )

    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({name: tensor(name, shape) for name, shape in shapes.items()}, path)
    assert path.stat().st_size < 1_000_000
    return path


def test_distances_are_those_of_torch_fidelity() -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    for n in (50, 9):
        a, b = torch.randn(2, n, 24, dtype=torch.float64).abs()
        b[:, ::3] *= 1.5
        fid = fid_statistics_to_metric(*map(fid_features_to_statistics, (a, b)), verbose=False)
        kid = kid_features_to_metric(a, b, kid_subset_size=n, verbose=False)
        assert (
            frechet_distance(a, b) == pytest.approx(fid[KEY_METRIC_FID], rel=1e-5) and fid[KEY_METRIC_FID] > 1
        )
        assert kernel_distance(a, b) == pytest.approx(kid[KEY_METRIC_KID_MEAN], rel=1e-9)


def test_rows_are_distances_in_the_features_of_torch_fidelity(model: LiftedGAN, weights: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    rows = compare_image_sets(model, 3, weights)
    assert [row.name for row in rows] == SETS and {row.features for row in rows} == {"Inception-v3"}
    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(weights))
    samples = model.sample(range(FIRST, FIRST + 3))
    others = model.sample(range(FIRST + 3, FIRST + 6)).image
    drawn = {"other samples": others, **drawn_sets(model, samples)}
    (true,) = network(to_bytes(samples.image))
    assert true.shape == (3, 2048) and true.std(0).max() > 1e-3
    for row in rows:
        (found,) = network(to_bytes(drawn[row.name]))
        expected = (x.double() for x in (true, found))
        assert row.frechet == pytest.approx(frechet_distance(*expected), rel=1e-4) and row.frechet > 0
        kernel = kernel_distance(true.double(), found.double())
        assert row.kernel_x1000 == pytest.approx(1000 * kernel, rel=1e-3, abs=1e-6)


def test_sets_are_seen_as_the_samples_and_as_others(model: LiftedGAN) -> None:
    samples = model.sample([1, 2, 3])
    sets = drawn_sets(model, samples)
    assert list(sets) == SETS[1:]
    for i, (one, before) in enumerate(zip(samples, (samples[2], samples[0], samples[1]), strict=True)):
        for name, seen in (("renders", one), ("renders, turned", before)):
            mesh = model.mesh(one.code, image_sets.MESH_RESOLUTION)
            maps = model.render(
                one.code, seen.cameras, seen.lights, PRESET.size, image_sets.MeshRenderer(mesh)
            )
            torch.testing.assert_close(images_to_colors(sets[name][i]), maps.colors[0, 0])
            projection = model.project(one.w, sets[name][i : i + 1])[0]
            torch.testing.assert_close(sets[name.replace("renders", "projections")][i], projection)


def test_kernel_distance_is_the_mean_over_pairs() -> None:
    a, b = torch.randn(2, 5, 4, dtype=torch.float64)

    def mean(x: Tensor, y: Tensor, skip: bool) -> float:
        pairs = [(i, j) for i in range(5) for j in range(5) if not (skip and i == j)]
        return sum(float((x[i] @ y[j] / 4 + 1) ** 3) for i, j in pairs) / len(pairs)

    expected = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)
    many = torch.randn(400, 4, dtype=torch.float64).split(200)
    assert abs(kernel_distance(*many)) < 0.2 < kernel_distance(many[0], many[1] + 1)


def test_without_the_weights_distances_have_another_name(
    model: LiftedGAN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_sets, "pretrained_trunk", lambda: None)
    notes = Notes()
    rows = compare_image_sets(model, 3, observer=notes)
    assert {row.features for row in rows} == {"a random network"} and rows[1].lpips_alex is None
    assert notes.messages[0].startswith("Distances in features of a random network instead of FID and KID.")
    samples = model.sample(range(FIRST, FIRST + 3)).image
    others = model.sample(range(FIRST + 3, FIRST + 6)).image
    a, b = (random_features(to_bytes(x) / 127.5 - 1).double() for x in (samples, others))
    assert rows[0].kernel_x1000 == pytest.approx(1000 * kernel_distance(a, b), rel=1e-3)


def test_a_trunk_and_lpips_where_they_can_be_had(model: LiftedGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trunk(torch.nn.Module):
        name = "two means"

        def forward(self, images: Tensor) -> list[Tensor]:
            return [images, images[:, :1, ::2, ::2]]

    def distance(backbone: str):
        return lambda a, b: (a - b).abs().mean((1, 2, 3)) * len(backbone)

    monkeypatch.setattr(image_sets, "pretrained_trunk", Trunk)
    monkeypatch.setattr(image_sets, "LpipsDistance", distance)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    rows = compare_image_sets(model, 2)
    assert rows[0].features == "two means" and rows[0].lpips_alex is None and rows[3].lpips_vgg is None
    assert rows[1].lpips_alex > 0 and rows[1].lpips_vgg == pytest.approx(rows[1].lpips_alex * 3 / 4)


def test_sentences(model: LiftedGAN, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="number of images to compare is 1, expected 2 or more"):
        compare_image_sets(model, 1)
    with pytest.raises(
        BackendUnavailable, match="cannot be downloaded .*: give --inception the file weights-"
    ):
        inception_features(None)
    absent = tmp_path / "absent.pth"
    with pytest.raises(CheckpointError, match="there is no file .*absent.pth for --inception"):
        compare_image_sets(model, 2, absent)
    foreign = tmp_path / "foreign.pth"
    torch.save({"fc.weight": torch.zeros(3)}, foreign)
    with pytest.raises(CorruptFile, match="foreign.pth does not fit Inception-v3 of torch-fidelity"):
        inception_features(foreign)

    class Hostile:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    foreign.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CorruptFile, match="foreign.pth holds no weights of torch"):
        inception_features(foreign)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(BackendUnavailable, match="pip install torch-fidelity and a torchvision"):
        compare_image_sets(model, 2, weights)


def test_command(tiny_model: Path, weights: Path) -> None:
    arguments = ["eval", "--model", str(tiny_model), "--heads", "1"]
    given = [*arguments, "--fid", "2", "--inception", str(weights)]
    result = CliRunner().invoke(main, [*given, "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["image_sets"]
    assert [row["name"] for row in rows] == SETS
    assert rows[1].keys() == {"name", "features", "fid", "kid_x1000", "lpips_alex", "lpips_vgg"}
    lines = CliRunner().invoke(main, given).stdout.splitlines()
    assert "images of 2 samples against the samples:" in lines and lines[-6].split()[:3] == [
        "name",
        "features",
        "fid",
    ]
    result = CliRunner().invoke(main, [*arguments, "--inception", "x"])
    assert result.exit_code == 1 and "--inception has no effect without --fid; leave it out" in result.stderr


def test_command_without_weights(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lift3d.evaluation.benchmark.evaluate", lambda *_: [])
    monkeypatch.setattr("lift3d.evaluation.image_sets.pretrained_trunk", lambda: None)
    seen = []
    monkeypatch.setattr(
        "lift3d.evaluation.image_sets.compare_image_sets",
        lambda model, n, *_: seen.append(n) or compare_image_sets(model, 2),
    )
    result = CliRunner().invoke(main, ["eval", "--model", str(tiny_model), "--fid", "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["image_sets"]
    assert seen == [1000] and rows[0]["features"] == "a random network"
    assert "frechet" in rows[0] and "fid" not in rows[0]
