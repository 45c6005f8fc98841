"""One scene per sample for USD: ``000003.usda`` with mesh, cameras and lights.

y up, units as in the dataset. The mesh has the diffuse albedo at its vertices and a UsdPreviewSurface that
shows it, whose roughness and specular color fit the mesh's mean Phong lobe (meshes/pbr.py). Cameras stand
under ``/sample/cameras``; the dataset's lights are the variants of ``/sample/lights``, a distant light for
the diffuse coefficient and a dome for the ambient one. A renderer of USD shades linear radiance, lift3d
display values: pictures look alike, but are not equal. Meshes have at most ``FACES`` faces.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from lift3d.export.convert.cameras import opengl
from lift3d.export.convert.sample import Sample
from lift3d.export.meshes.pbr import mean_lobe
from lift3d.scene.color import srgb_to_linear
from lift3d.scene.mesh import Mesh, clean, decimate

FACES = 20_000
APERTURE = 20.955  # width of a camera's film; only its ratio to the focal length matters
MARGIN = 1.5  # of the clipping planes around the center; the object lies in the unit sphere

_MESH = """    def Mesh "mesh" (prepend apiSchemas = ["MaterialBindingAPI"])
    {{
        uniform token orientation = "rightHanded"
        uniform token subdivisionScheme = "none"
        float3[] extent = {extent}
        int[] faceVertexCounts = {counts}
        int[] faceVertexIndices = {faces}
        point3f[] points = {points}
        normal3f[] normals = {normals} (interpolation = "vertex")
        color3f[] primvars:displayColor = {colors} (interpolation = "vertex")
        rel material:binding = </sample/material>
    }}

    def Material "material"
    {{
        token outputs:surface.connect = </sample/material/surface.outputs:surface>
        def Shader "surface"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </sample/material/albedo.outputs:result>
            float inputs:roughness = {roughness:.4f}
            int inputs:useSpecularWorkflow = 1
            color3f inputs:specularColor = ({f0:.5f}, {f0:.5f}, {f0:.5f})
            token outputs:surface
        }}
        def Shader "albedo"
        {{
            uniform token info:id = "UsdPrimvarReader_float3"
            string inputs:varname = "displayColor"
            float3 outputs:result
        }}
    }}
"""
_CAMERA = """        def Camera "view{view:03d}"
        {{
            float focalLength = {focal:.7g}
            float horizontalAperture = {width:.7g}
            float verticalAperture = {height:.7g}
            float horizontalApertureOffset = {right:.7g}
            float verticalApertureOffset = {up:.7g}
            float2 clippingRange = ({near:.6g}, {far:.6g})
            matrix4d xformOp:transform = {matrix}
            uniform token[] xformOpOrder = ["xformOp:transform"]
        }}
"""
_LIGHT = """            "light{light:03d}" {{
                def DistantLight "sun"
                {{
                    float inputs:intensity = {sun:.7g}
                    bool inputs:normalize = 1
                    matrix4d xformOp:transform = {matrix}
                    uniform token[] xformOpOrder = ["xformOp:transform"]
                }}
                def DomeLight "ambient"
                {{
                    float inputs:intensity = {ambient:.7g}
                }}
            }}
"""


def write(folder: Path, samples: Iterable[Sample]) -> None:
    """A file per sample."""
    for sample in samples:
        (folder / f"{sample.name}.usda").write_text(scene(sample), encoding="utf-8")


def scene(sample: Sample) -> str:
    """The text of a sample's file."""
    cameras = "".join(_camera(sample, view) for view in range(sample.n_views))
    lights = "".join(_light(sample, light) for light in range(sample.n_lights))
    return (
        '#usda 1.0\n(\n    defaultPrim = "sample"\n    metersPerUnit = 1\n    upAxis = "Y"\n)\n\n'
        f'def Xform "sample"\n{{\n{_mesh(sample.mesh())}\n'
        f'    def Scope "cameras"\n    {{\n{cameras}    }}\n\n'
        '    def Xform "lights" (\n        prepend variantSets = "light"\n'
        '        variants = { string light = "light000" }\n    )\n    {\n'
        f'        variantSet "light" = {{\n{lights}        }}\n    }}\n}}\n'
    )


def _mesh(mesh: Mesh) -> str:
    mesh = clean(decimate(mesh, FACES)) if len(mesh.faces) > FACES else mesh
    roughness, f0 = mean_lobe(mesh)
    ends = (mesh.vertices.min(0), mesh.vertices.max(0)) if len(mesh.vertices) else np.zeros((2, 3))
    return _MESH.format(
        extent=_array(np.stack(ends)),
        counts=_array(np.full(len(mesh.faces), 3)),
        faces=_array(mesh.faces.ravel()),
        points=_array(mesh.vertices),
        normals=_array(mesh.normals),
        colors=_array(srgb_to_linear(mesh.albedo)),
        roughness=roughness,
        f0=f0,
    )


def _camera(sample: Sample, view: int) -> str:
    k, size = sample.k[view].astype(np.float64), sample.size
    focal = APERTURE * k[0, 0] / size
    distance = float(np.linalg.norm(sample.cam2world[view, :3, 3]))
    return _CAMERA.format(
        view=view,
        focal=focal,
        width=APERTURE,
        height=focal * size / k[1, 1],
        right=(size / 2 - k[0, 2]) / k[0, 0] * focal,
        up=(k[1, 2] - size / 2) / k[1, 1] * focal,
        near=max(distance - MARGIN, 0.01),
        far=distance + MARGIN,
        matrix=_matrix(opengl(sample.cam2world[view])),
    )


def _light(sample: Sample, light: int) -> str:
    """A distant light shines along its -z; ``normalize`` makes its intensity an irradiance."""
    pose = np.eye(4)
    pose[:3, 2] = z = sample.light_dir[light].astype(np.float64)
    pose[:3, 0] = x = _unit(np.cross(np.eye(3)[np.abs(z).argmin()], z))
    pose[:3, 1] = np.cross(z, x)
    irradiance, radiance = np.pi * sample.light_diffuse[light], sample.light_ambient[light]
    return _LIGHT.format(light=light, sun=irradiance, ambient=radiance, matrix=_matrix(pose))


def _unit(vector: Float[ndarray, "3"]) -> Float[ndarray, "3"]:
    return vector / np.linalg.norm(vector)


def _matrix(pose: Float[ndarray, "4 4"]) -> str:
    """USD multiplies row vectors from the left: the transposed matrix."""
    rows = (", ".join(f"{x:.9g}" for x in row) for row in pose.T)
    return "( " + ", ".join(f"({row})" for row in rows) + " )"


def _array(values: Shaped[ndarray, "n ..."]) -> str:
    """Numbers or tuples of numbers."""
    if values.ndim == 1:
        return "[" + ", ".join(map(str, values.tolist())) + "]"
    return "[" + ", ".join(f"({x:.7g}, {y:.7g}, {z:.7g})" for x, y, z in values.tolist()) + "]"
