"""A generator of one's own that draws shaded eggs before backgrounds of any color, and toys of the published
presets that lift it.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn

from lift3d.config.presets import get_preset, with_size
from lift3d.config.schema import FieldConfig, Preset, Schedule
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.own import as_gan
from lift3d.render.volume import SamplingConfig

SIZE, N_STEPS = 32, 30


class Eggs(nn.Module):
    """w = z: colors of egg and background, and where the light comes from."""

    z_dim = w_dim = h_dim = 8
    resolution = SIZE

    def __init__(self, radii: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("w_avg", torch.zeros(8))
        y, x = torch.meshgrid(*((torch.arange(SIZE) + 0.5) / (SIZE / 2) - 1,) * 2, indexing="ij")
        inside = (x / radii[0]).square() + (y / radii[1]).square()
        self.normal = torch.stack((x / radii[0], -y / radii[1], (1 - inside).clamp_min(0).sqrt()))
        self.mask = (inside < 1).float()

    def to_w(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def to_image(self, w: torch.Tensor) -> torch.Tensor:
        egg, ground = torch.sigmoid(w[:, :3]), torch.sigmoid(w[:, 3:6])
        light = F.normalize(F.pad(0.5 * w[:, 6:8], (0, 1), value=1.0), dim=1)
        shading = 0.4 + 0.6 * torch.einsum("nc,chw->nhw", light, self.normal).clamp_min(0)
        image = torch.where(
            self.mask[None, None] > 0, egg[:, :, None, None] * shading[:, None], ground[:, :, None, None]
        )
        return 2 * image - 1

    def offset(self, step: torch.Tensor) -> torch.Tensor:
        return step

    def styles(self, w: torch.Tensor) -> torch.Tensor:
        return w

    def features(self, images: torch.Tensor) -> list[torch.Tensor]:
        return [F.avg_pool2d(images, 2), F.avg_pool2d(images, 4)]


def toy(name: str, profile: str = "full") -> tuple[Preset, LoadedGan]:
    """A published preset, its networks and schedules as small as may be but for 30 steps of step 3, and the
    eggs that it lifts.
    """
    preset = with_size(get_preset(name, profile), SIZE)
    steps = {"n_samples": 4, "n_rerendered": 3, "n_stages": 1}
    steps |= {"explore_first": 30, "align": 2, "exploit": N_STEPS}
    shrunk = lambda s: replace(s, **(steps if s is preset.joint else steps | {"n_samples": 1}))  # noqa: E731
    joint: Schedule | None = None if preset.joint is None else shrunk(preset.joint)
    small = replace(
        preset, joint=joint, instance=(shrunk(preset.instance[0]),), bars=0.0,
        refine=replace(preset.refine, iterations=10),
        shape=FieldConfig(64, 4, 4, beta=5.0), material=FieldConfig(64, 2, 6),
        n_code=16, encoder_width=1 / 16,
        n_unlabeled=min(preset.n_unlabeled, 16), sampling=SamplingConfig(16, 8, True),
        batch=replace(preset.batch, n_images=4, n_rays=256, patch=8, n_surface=512, n_align=2, n_latent=4,
            n_view_light=4, n_surface_pixels=min(preset.batch.n_surface_pixels, 256)),
    )  # fmt: skip
    return small, as_gan(Eggs(preset.radii), "eggs")
