"""Lights of images whose views are known, from the shading on the mean shape of their category.

Retinex (Land and McCann 1971) on a known shape: where two pixels have the same chromaticity, they show the
same material, so that what differs between their brightnesses is shading. Of a grid of lights, every image
takes the one whose shading explains those differences best. Only the ratio of diffuse and ambient light
shows; the prior says how bright both are together.
"""

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from lift3d.losses import chromaticity
from lift3d.masks.morphology import interior
from lift3d.render.mesh import prepare
from lift3d.render.rasterize import interpolate
from lift3d.scene.cameras import Cameras
from lift3d.scene.geometry import normalize
from lift3d.scene.lights import LightPrior, Lights
from lift3d.scene.mesh import Mesh

GRID = (11, 9, 5)  # values of l_x, l_y and k_d / k_a
N_PIXELS = 256  # that are compared with each other
SAME = 5e-4  # square of a difference in chromaticity at which pixels count exp(-1)
DARKEST = 0.03  # intensity below which brightness is noise
CHUNK = 64  # images at a time


@torch.no_grad()
def find_lights(
    mesh: Mesh,
    prior: LightPrior,
    images: UInt8[Tensor, "n 3 s s"],
    masks: Bool[Tensor, "n s s"],
    views: Float[Tensor, "n 6"],
) -> Float[Tensor, "n 5"]:
    """The light (k_a, k_d, l_x, l_y, k_n) of each image, within the prior's range."""
    device = images.device
    normals, faces = (torch.from_numpy(x).to(device) for x in (mesh.normals, mesh.faces))
    scene, lights = prepare(mesh, device), light_grid(prior).to(normals)
    lamps = Lights.from_vector(lights)
    ratio = (lamps.diffuse / lamps.ambient)[:, None]
    rng = torch.Generator().manual_seed(0)
    found = []
    for image, mask, view in zip(images.split(CHUNK), masks.split(CHUNK), views.split(CHUNK)):
        fragments = scene.fragments(Cameras.from_view(view), image.shape[-1])
        seen = (interior(mask) & fragments.mask).flatten(1).float()
        chosen = torch.multinomial((seen + 1e-6).cpu(), min(N_PIXELS, seen.shape[1]), generator=rng)
        chosen = chosen.to(device)
        weight = seen.gather(1, chosen)
        rgb = (image.float() / 255).flatten(2).gather(2, chosen[:, None].expand(-1, 3, -1)).mT
        normal = normalize(interpolate(normals, faces, fragments)).flatten(1, 2)
        normal = normal.gather(1, chosen[..., None].expand(-1, -1, 3))
        chroma = chromaticity(rgb)
        alike = torch.exp(-torch.cdist(chroma, chroma).square() / SAME)
        alike = alike * weight[:, None] * weight[:, :, None]
        shading = torch.log1p(ratio * (lamps.direction @ normal.mT).clamp_min(0.0))
        left = rgb.mean(-1).clamp_min(DARKEST).log()[:, None] - shading  # unexplained: b lights pixels
        cost = (left.square() * alike.sum(1)[:, None]).sum(-1) - ((left @ alike) * left).sum(-1)
        found.append(lights[cost.argmin(1)])
    return torch.cat(found)


def light_grid(prior: LightPrior) -> Float[Tensor, "g 5"]:
    """Lights over the prior's range; k_a and k_d go together as the prior's mean level couples them."""
    n_x, n_y, n_ratio = GRID
    level, negative = sum(prior.level) / 2, sum(prior.negative) / 2
    l_x, l_y, diffuse = torch.cartesian_prod(
        torch.linspace(*prior.l_x, n_x),
        torch.linspace(*prior.l_y, n_y),
        torch.linspace(*prior.diffuse, n_ratio),
    ).unbind(1)
    ambient = (level - prior.coupling * diffuse).clamp_min(0.01)
    return torch.stack((ambient, diffuse, l_x, l_y, torch.full_like(l_x, negative)), 1)
