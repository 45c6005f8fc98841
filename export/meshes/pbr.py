"""Our Phong material in the words of physically based renderers (Principled BSDF, glTF).

k: specular intensity, p: exponent of (r.v)^p. A microfacet lobe of roughness (2 p + 1)^(-1/4) and normal
reflectance F0 = 2.6 k / (p + 2) fits it in the least-squares sense. Both were measured against Cycles: the
usual sqrt(2 / (p + 2)) is for (n.h)^p and 1.6 times too wide here, and 9.44 k / (4 p + 1), as good a fit from
p = 15 on, is too bright below (a ball of k = 0.3, p = 4: mean error of display values 0.008 and 0.012).
Diffuse albedo stays as it is.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lift3d.scene.mesh import Mesh

DIELECTRIC = 0.04  # F0 of an index of refraction of 1.5, which glTF and Blender start from


def roughness(shininess: Float[ndarray, "*s"]) -> Float[ndarray, "*s"]:
    """Perceptual roughness, the square root of the microfacet alpha."""
    return (2.0 * shininess + 1.0) ** -0.25


def reflectance(specular: Float[ndarray, "*s"], shininess: Float[ndarray, "*s"]) -> Float[ndarray, "*s"]:
    """F0, the share of light reflected at normal incidence; dielectrics have about 0.04."""
    return 2.6 * specular / (shininess + 2.0)


def mean_lobe(mesh: Mesh) -> tuple[float, float]:
    """Roughness and F0 of a mesh as a whole, for formats without maps; matt if it has no material."""
    if mesh.specular is None or mesh.shininess is None or not len(mesh.shininess):
        return 1.0, 0.0
    f0 = reflectance(mesh.specular, mesh.shininess)
    return float(np.mean(roughness(mesh.shininess))), float(np.mean(f0))
