"""Does the lifted GAN obey lights? Requested lights against those that E_l reads from projections."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from lift3d.errors import ConfigError
from lift3d.model import LiftedGAN
from lift3d.observer import Observer, observed
from lift3d.renderers import MeshRenderer
from lift3d.scene.images import colors_to_images, resize
from lift3d.scene.lights import Lights
from lift3d.seeds import STREAMS


@dataclass(frozen=True)
class Relighting:
    """Correlation of requested light directions with those E_l reads from the projections.

    ``direction`` is that of the unit vectors, all components pooled after subtracting each one's mean.
    """

    direction: float
    l_x: float
    l_y: float


@torch.no_grad()
def relighting(
    model: LiftedGAN, n: int = 200, seed: int = STREAMS["relighting"].start, observer: Observer | None = None
) -> Relighting:
    """Lights n GAN samples, each once by a light of the prior, at its own view; projects the render; reads
    the light back.
    """
    if n < 2:
        raise ConfigError(f"number of relit samples is {n}, expected at least 2 for a correlation")
    lights = model.config.light_prior.sample(n, torch.Generator().manual_seed(seed))
    read, size = [], model.config.size
    for i in observed(observer, "relighting", range(n)):
        one, lamp = model.sample([seed + i]), Lights.from_vector(lights[i : i + 1])
        renderer = MeshRenderer(model.mesh(one.code[0], 64))
        render = model.render(one.code[0], one.cameras, lamp, size, renderer)
        projection = model.project(one.w[0], colors_to_images(render.colors[0]))
        read.append(model.light_encoder(resize(projection, size))[0])
    pairs = torch.stack((lights, torch.stack(read)))[..., 2:4]
    directions = F.normalize(F.pad(pairs, (0, 1), value=1.0), dim=-1)
    directions = (directions - directions.mean(1, keepdim=True)).flatten(1)
    correlation = lambda x: float(torch.corrcoef(x)[0, 1])  # noqa: E731
    return Relighting(correlation(directions), correlation(pairs[..., 0]), correlation(pairs[..., 1]))
