"""Maps of views of one object, and their images under lights."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.scene.batch import Batch
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights
from lift3d.scene.shading import Material, shading


@dataclass(frozen=True)
class GBuffer:
    """Surface attributes at every pixel, in the world frame."""

    mask: Bool[Tensor, "*s h w"]
    position: Float[Tensor, "*s h w 3"]
    normal: Float[Tensor, "*s h w 3"]  # unit
    to_camera: Float[Tensor, "*s h w 3"]  # unit
    z_depth: Float[Tensor, "*s h w"]  # along the optical axis
    material: Material


@dataclass(frozen=True, repr=False)
class Maps(Batch):
    """Views [v] of one object, each under l lights; maps are 0 in the background. ``maps[i]`` is one view.

    Inside the mask, colors = clip(albedo * diffuse_shading + specular_shading, 0, 1), unless they are
    antialiased, as those of synthetic heads are.
    """

    mask: Bool[Tensor, "*v h w"]
    depth: Float[Tensor, "*v h w"]  # z-depth, world units
    normals: Float[Tensor, "*v h w 3"]  # unit, world frame
    albedo: Float[Tensor, "*v h w 3"]  # [0, 1]
    specular: Float[Tensor, "*v h w"]  # intensity, [0, 1]
    shininess: Float[Tensor, "*v h w"]  # Phong exponent, 4..100
    diffuse_shading: Float[Tensor, "*v l h w"]
    specular_shading: Float[Tensor, "*v l h w"]
    colors: Float[Tensor, "*v l h w 3"]  # [0, 1]

    def normals_in_camera(self, cameras: Cameras) -> Float[Tensor, "*v h w 3"]:
        """The normals in the frames of their cameras: x right, y up, z towards the camera."""
        return self.normals @ cameras.rotation[..., None, :, :].mT


@dataclass(frozen=True, repr=False)
class Renders(Batch):
    """Images with their maps, and the views and lights that made them."""

    maps: Maps  # l = 1
    view: Float[Tensor, "*n 6"]
    light: Float[Tensor, "*n 5"] | None  # None: of a predictor that knows geometry only

    @property
    def image(self) -> Float[Tensor, "*n h w 3"]:
        """The colors under the one light."""
        return self.maps.colors[..., 0, :, :, :]

    @property
    def cameras(self) -> Cameras:
        """The cameras of the views."""
        return Cameras.from_view(self.view)


def shade_maps(g: GBuffer, lights: Lights, background: tuple[float, float, float]) -> Maps:
    """Shades v views under lights [l] or [v, l]; all ``Maps`` are put together here."""
    mask, material = g.mask, g.material
    seen = mask.nonzero(as_tuple=True)  # k pixels, which are shaded one after the other: [k, l]
    lamps = lights.to(mask.device)
    lamps = lamps[seen[0]] if len(lamps.batch_shape) > 1 else lamps
    maps = (g.normal, g.to_camera, material.albedo, material.specular, material.shininess)
    normals, back, *columns = (x[seen][:, None] for x in maps)
    pixels = Material(*columns)
    factors = shading(normals, back, pixels, lamps)
    colors = (pixels.albedo * factors.diffuse + factors.specular).clamp(0.0, 1.0)

    def image(pixels: Float[Tensor, "k l c"], outside: Float[Tensor, " c"]) -> Float[Tensor, "v l h w c"]:
        whole = outside.repeat(*mask.shape, pixels.shape[1], 1)  # the lights of a pixel side by side
        whole[seen] = pixels
        return whole.movedim(3, 1)

    inside, black = mask[..., None], colors.new_zeros(1)
    return Maps(
        mask=mask,
        depth=g.z_depth * mask,
        normals=g.normal * inside,
        albedo=material.albedo * inside,
        specular=material.specular[..., 0] * mask,
        shininess=material.shininess[..., 0] * mask,
        diffuse_shading=image(factors.diffuse, black)[..., 0],
        specular_shading=image(factors.specular, black)[..., 0],
        colors=image(colors, colors.new_tensor(background)),
    )
