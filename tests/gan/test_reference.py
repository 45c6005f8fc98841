"""GAN files of the original programs against numbers that those wrote (shared/fixtures/stylegan)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lift3d.errors import CorruptFile, Lift3DError
from lift3d.gan import LoadedGan, describe, load

SHARED = Path(__file__).parents[2] / "shared" / "fixtures"  # beside the repository
FIXTURES = Path(os.environ.get("LIFT3D_FIXTURES", SHARED)) / "stylegan"
pytestmark = pytest.mark.skipif(not FIXTURES.is_dir(), reason=f"no fixtures in {FIXTURES}")


class Reference:
    """A GAN and the numbers of its original."""

    def __init__(self, name: str) -> None:
        self.gan: LoadedGan = load(FIXTURES / name)
        self.numbers = dict(np.load((FIXTURES / name).with_suffix(".npz")))
        self.settings = json.loads(str(self.numbers.pop("meta", "{}")))

    def input(self, key: str) -> Tensor | None:
        """An input of the original; None for an empty condition."""
        array = self.numbers.get(key, np.zeros(0))
        return torch.from_numpy(array) if array.size else None

    def error(self, actual: Tensor, key: str) -> float:
        """Largest difference, relative to the largest number."""
        expected = self.numbers[key]
        return float(np.abs(actual.numpy() - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module", params=["ada_r32.pkl", "ada_r64_cond.pkl", "ros_r32.pt"])
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


def test_generator(reference: Reference) -> None:
    g, z, c = reference.gan.generator, reference.input("z"), reference.input("c")
    ws = g.ws(z, c)
    assert reference.error(ws, "w") <= 1e-5
    assert reference.error(g.ws(z, c, psi=0.7), "w_psi07") <= 1e-5
    if "w_cut" in reference.numbers:
        assert reference.error(g.ws(z, c, psi=0.7, cutoff=2), "w_cut") <= 1e-5
    assert reference.error(g.synthesis(ws[:2], "const"), "img_const") <= 1e-5
    assert reference.error(g.synthesis(ws[:2], "none"), "img_none") <= 1e-5
    images = g(z[:2], None if c is None else c[:2], psi=0.7, noise_mode="const")
    assert reference.error(images, "img_psi07") <= 1e-5
    assert reference.error(g.synthesis(reference.input("w_mix"), "const"), "img_mix") <= 1e-5


def test_discriminator(reference: Reference) -> None:
    d, images, c = reference.gan.discriminator, reference.input("d_in"), reference.input("d_c")
    assert reference.error(d(images[:4], None if c is None else c[:4]), "logits4") <= 1e-4
    assert reference.error(d(images, c), "logits8") <= 1e-4
    for i, feature in enumerate(d.features(images[:4])):
        if f"d_feat{i}" in reference.numbers:
            assert reference.error(feature.abs().mean(dim=1), f"d_feat{i}") <= 1e-4


@pytest.fixture(scope="module", params=["sg3t_r32.pkl", "sg3r_r32.pkl"])
def alias_free(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


def test_alias_free_generator(alias_free: Reference) -> None:
    g, z = alias_free.gan.generator, alias_free.input("z")
    ws, near = g.ws(z), g.ws(z, psi=0.7)
    assert alias_free.error(ws, "w") <= 1e-5
    assert alias_free.error(near, "w_psi07") <= 1e-5
    assert alias_free.error(g.draw(ws[:2]), "img") <= 1e-5
    assert alias_free.error(g.draw(near[:2]), "img_psi07") <= 1e-5
    assert alias_free.error(g.to_image(alias_free.input("w_one")), "img_one") <= 1e-5


def test_alias_free_discriminator(alias_free: Reference) -> None:
    assert alias_free.error(alias_free.gan.discriminator(alias_free.input("d_in")), "logits4") <= 1e-4


def test_alias_free_descriptions() -> None:
    t, r, other = (describe(FIXTURES / f"{name}_r32.pkl") for name in ("sg3t", "sg3r", "bad_sg3t"))
    assert (t.family, t.architecture, t.channels) == ("StyleGAN3", "T", (32, 32, 32, 27, 16, 16))
    assert (r.family, r.architecture, r.channels) == ("StyleGAN3", "R", (32,) * 6)
    assert (other.family, other.architecture, other.z_dim) == ("StyleGAN3", "T", 64)
    assert load(FIXTURES / "bad_sg3t_r32.pkl").generator(torch.zeros(1, 64)).shape == (1, 3, 32, 32)


def test_descriptions() -> None:
    ada, conditional, ros = (
        describe(FIXTURES / name) for name in ("ada_r32.pkl", "ada_r64_cond.pkl", "ros_r32.pt")
    )
    assert (ada.kind, ada.resolution, ada.channels, ada.n_mapping_layers) == (
        "nvlabs",
        32,
        (16, 16, 16, 8),
        8,
    )
    assert (conditional.resolution, conditional.c_dim, conditional.n_mapping_layers) == (64, 5, 2)
    assert (ros.kind, ros.channels, ros.discriminator, ros.notes) == ("rosinality", (16,) * 4, True, ())


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        ("bad_evil_global.pkl", CorruptFile, "asks for builtins.exec, .* nothing in it was executed"),
        ("bad_tensor_oob.pkl", CorruptFile, "a tensor of shape 1000 x 1000 exceeds its storage of 3 numbers"),
    ],
)
def test_what_must_be_refused(name: str, kind: type[Lift3DError], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        load(FIXTURES / name)
    assert "SG_FIXTURE_PWNED" not in os.environ
