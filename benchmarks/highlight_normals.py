"""How exact must normals be to put highlights in their places?

    python benchmarks/highlight_normals.py [MODEL]

Correlation with the true specular radiance, in pixels that the true highlights light (``lift3d eval``), of
lobes of one intensity and one exponent under the lights that a lifted model predicts from single images: on
its own normals, on normals between them and the true ones, and on true normals blurred over pixels of 64².
Beside them what does without normals: the true mean of every image, and the true map of intensities.
"""

import sys
from dataclasses import replace

import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lift3d.evaluation.benchmark import benchmark_renders, lifted
from lift3d.evaluation.metrics import angle_deg, common_pixels
from lift3d.evaluation.specular import EXPONENTS, LIT, constant_lobe
from lift3d.instance import load
from lift3d.render.maps import Renders
from lift3d.scene.batch import stack
from lift3d.scene.geometry import normalize

SHARES = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the true normals
BLURS = (1, 2, 3)  # standard deviations, pixels


def main(name: str) -> None:
    """Prints a line per kind of normals."""
    true, predict = benchmark_renders(), lifted(load(name))
    found: Renders = stack([predict(i, true[i]) for i in range(len(true.view))])
    to_found = found.cameras.rotation.mT @ true.cameras.rotation  # seen from the cameras, normals agree
    exact = torch.einsum("nij,nhwj->nhwi", to_found, true.maps.normals)
    radiance = true.maps.specular_shading[:, 0]
    common = common_pixels(found.maps.mask, true.maps.mask)
    lit = common & (radiance > LIT)

    def correlation(guess: Float[Tensor, "n h w"]) -> float:
        return torch.corrcoef(torch.stack((guess[lit], radiance[lit])))[0, 1].item()

    def line(kind: str, normals: Float[Tensor, "n h w 3"]) -> None:
        renders = replace(found, maps=replace(found.maps, normals=normals))
        r = max(correlation(constant_lobe(renders, exponent)) for exponent in EXPONENTS)
        off = angle_deg(normals, exact)
        angles = f"{off[common].mean():5.1f} degrees, {off[lit].mean():5.1f} where lit"
        print(f"{kind:30} {angles}; correlation {r:.2f}")

    for share in SHARES:
        line(f"{share:.0%} of the way to the truth", normalize(found.maps.normals.lerp(exact, share)))
    inside = (exact * common[..., None]).numpy()
    for std in BLURS:
        blurred = torch.from_numpy(gaussian_filter(inside, (0, std, std, 0)))
        line(f"true, blurred by {std} pixels", normalize(blurred))
    mean = (radiance * lit).sum((1, 2)) / lit.sum((1, 2)).clamp_min(1)
    print(f"true mean of every image: correlation {correlation(mean[:, None, None].expand_as(radiance)):.2f}")
    print(f"true intensities: correlation {correlation(true.maps.specular):.2f}")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["demo"]))
