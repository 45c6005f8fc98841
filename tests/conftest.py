"""Setting of all tests: shapes checked at run time, one thread per process, fixed seeds, any torchvision."""

import random
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# Checks all signatures of lift3d, lift3d.cli and lift3d.export, in tests only. Must come before
# the first import of lift3d.
install_import_hook("lift3d", "beartype.beartype")

# lpips imports torchvision, whose extension does not load beside a torch of another build (CUDA beside CPU).
# Nothing here uses its operators, but torchvision refuses to be imported unless these two are declared.
try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    _operators = torch.library.Library("torchvision", "DEF")
    for _name in ("nms", "qnms"):
        _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Every test starts from the same random state and process-wide settings, whatever ran before it."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test downloads weights or finds downloaded ones, so that tests do the same on every machine."""

    def refuse(url: str, *_: object, **__: object) -> None:
        raise URLError(f"tests stay offline: {url}")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "no-weights"))
    monkeypatch.setenv("LIFT3D_CACHE", str(tmp_path_factory.getbasetemp() / "no-gans"))


@pytest.fixture(scope="session")
def tiny_gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GAN file of 64 pixels, untrained, with its discriminator."""
    from lift3d.gan.files.load import save_gan
    from lift3d.gan.stylegan2 import (
        Discriminator,
        DiscriminatorConfig,
        Generator,
        GeneratorConfig,
        channels_for,
    )

    torch.manual_seed(0)
    channels = channels_for(64, 64, 8)
    generator = Generator(GeneratorConfig(channels, z_dim=8, w_dim=8, n_mapping_layers=2))
    path = tmp_path_factory.mktemp("gan") / "tiny.safetensors"
    save_gan(path, generator, Discriminator(DiscriminatorConfig(channels)), license="CC0-1.0")
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_gan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lifted model file of the preset "tiny", untrained: its surface is the ellipsoid it starts from."""
    from lift3d.config.presets import TINY
    from lift3d.gan.files.load import load
    from lift3d.model import LiftedGAN

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    LiftedGAN(TINY, load(tiny_gan).generator).save(path)
    return path
