"""How exact must normals be to put highlights in their places?

    python benchmarks/highlight_normals.py [MODEL]

Correlation with the true specular radiance, in pixels that the true highlights light (``lift3d eval``), of
lobes of one intensity and one exponent under the lights that a lifted model predicts from single images: on
its own normals, on normals between them and the true ones, and on true normals blurred over pixels of 64².
"""

import sys
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.evaluation.benchmark import benchmark_renders, lifted
from lift3d.evaluation.metrics import angle_deg, common_pixels
from lift3d.evaluation.specular import LIT, constant_lobe
from lift3d.instance import load
from lift3d.render.maps import Renders
from lift3d.scene.batch import stack
from lift3d.scene.geometry import normalize

EXPONENTS = (4.0, 8.0, 12.0, 20.0, 30.0)
SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the true normals
BLURS = (1, 2, 3)  # standard deviations, pixels


def blurred(
    normals: Float[Tensor, "n h w 3"], inside: Bool[Tensor, "n h w"], std: int
) -> Float[Tensor, "n h w 3"]:
    """Gaussian means over what is inside."""
    at = torch.arange(-3.0 * std, 3.0 * std + 1.0)
    weights = torch.exp(-0.5 * (at / std) ** 2)
    x = (normals * inside[..., None]).movedim(-1, 1)
    for axis in (2, 3):
        kernel = weights.view(-1, 1) if axis == 2 else weights.view(1, -1)
        x = F.conv2d(x, kernel.expand(3, 1, -1, -1), padding="same", groups=3)
    return normalize(x.movedim(1, -1))


def main(name: str) -> None:
    """Prints a line per kind of normals."""
    true, predict = benchmark_renders(), lifted(load(name))
    found: Renders = stack([predict(i, true[i]) for i in range(len(true.view))])
    to_found = found.cameras.rotation.mT @ true.cameras.rotation  # seen from the cameras, normals agree
    exact = torch.einsum("nij,nhwj->nhwi", to_found, true.maps.normals)
    radiance = true.maps.specular_shading[:, 0]
    common = common_pixels(found.maps.mask, true.maps.mask)
    lit = common & (radiance > LIT)

    def line(kind: str, normals: Float[Tensor, "n h w 3"]) -> None:
        renders = replace(found, maps=replace(found.maps, normals=normals))
        lobes = [constant_lobe(renders, exponent) for exponent in EXPONENTS]
        r = max(torch.corrcoef(torch.stack((lobe[lit], radiance[lit])))[0, 1].item() for lobe in lobes)
        off = angle_deg(normals, exact)
        angles = f"{off[common].mean():5.1f} degrees, {off[lit].mean():5.1f} where lit"
        print(f"{kind:30} {angles}; correlation {r:.2f}")

    for share in SHARES:
        line(f"{share:.0%} of the way to the truth", normalize(found.maps.normals.lerp(exact, share)))
    for std in BLURS:
        line(f"true, blurred by {std} pixels", blurred(exact, common, std))


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["demo"]))
