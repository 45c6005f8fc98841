"""A folder about one instance and what it was made from: ``lift3d refine`` and ``lift3d invert``.

``instance.lift``; ``before-after.png``, the joint model's object above the refined one; ``views.png`` and
``lights.png``; ``maps/``, as seen from the image's own view; ``object.glb``.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lift3d import pictures
from lift3d.export.meshes.write import write_mesh
from lift3d.export.objects import finish, from_model
from lift3d.instance import FILE, Instances
from lift3d.model import LiftedGAN, Samples
from lift3d.pictures import Picture
from lift3d.render.maps import Maps
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import images_to_colors, to_picture
from lift3d.scene.lights import Lights

SIZE = 192  # pixels a side of the renders
TURN = math.radians(30)  # of the renders beside the image's own view
YAWS = [math.radians(yaw) for yaw in (-60, -30, 0, 30, 60)]
LIGHTS = [(-1.0, 0.3), (-0.5, 0.3), (0.0, 0.3), (0.5, 0.3), (1.0, 0.3)]  # l_x, l_y
TEXELS, FACES = 512, 20_000


def write_inversion(
    folder: Path, base: LiftedGAN, sample: Samples, found: Instances, mesh: bool = True
) -> None:
    """Writes the folder (module docstring) of an instance [1] made of a ``sample`` [1] of ``base``."""
    (folder / "maps").mkdir(parents=True, exist_ok=True)
    found.save(folder / FILE)
    refined = found.sample([0])
    renderer = MeshRenderer(found.mesh(refined.code[0]))
    rows = [_row(base, sample, MeshRenderer()), _row(found, refined, renderer)]
    image = _enlarged(sample.image[0])
    sheet = pictures.contact_sheet(
        [[image, *row.values()] for row in rows], ["before", "after"], ["image", *rows[0]]
    )
    pictures.save_image(folder / "before-after.png", sheet)
    pictures.save_image(folder / "image.png", image)
    views = refined.view.new_zeros(len(YAWS), 6)
    views[:, 1] = views.new_tensor(YAWS)
    turned = _render(found, refined, Cameras.from_view(views), refined.lights, renderer)
    pictures.save_image(folder / "views.png", pictures.grid([list(to_picture(turned.colors[:, 0]))]))
    lights = refined.light.repeat(len(LIGHTS), 1)
    lights[:, 2:4] = lights.new_tensor(LIGHTS)
    lit = _render(found, refined, refined.cameras, Lights.from_vector(lights), renderer)
    pictures.save_image(folder / "lights.png", pictures.grid([list(to_picture(lit.colors[0]))]))
    own = _render(found, refined, refined.cameras, refined.lights, renderer)
    for name, picture in _maps(own).items():
        pictures.save_image(folder / "maps" / f"{name}.png", picture)
    if mesh:
        finished = finish(from_model(found, [0]).instance(0), TEXELS, FACES)
        write_mesh(folder / "object.glb", finished.mesh, finished.textures)


def _row(model: LiftedGAN, sample: Samples, renderer: MeshRenderer) -> dict[str, Picture]:
    """Renders and maps of one sample, by their labels."""
    views = sample.view.repeat(3, 1)
    views[1:, 1] = views.new_tensor([-TURN, TURN])
    light = sample.light.repeat(2, 1)
    light[1, 2] = -light[0, 2] if abs(light[0, 2]) > 0.3 else 0.8
    maps = _render(model, sample, Cameras.from_view(views), Lights.from_vector(light), renderer)
    colors, own = to_picture(maps.colors), _maps(maps)
    row = {"render": colors[0, 0], "normals": own["normals"], "albedo": own["albedo"]}
    degrees = round(math.degrees(TURN))
    return row | {"relit": colors[0, 1], f"yaw -{degrees}°": colors[1, 0], f"yaw {degrees}°": colors[2, 0]}


def _render(
    model: LiftedGAN, sample: Samples, cameras: Cameras, lights: Lights, renderer: MeshRenderer
) -> Maps:
    return model.render(sample.code[0], cameras, lights, SIZE, renderer).to("cpu")


def _maps(maps: Maps) -> dict[str, Picture]:
    """Pictures of the first view's maps."""
    mask = maps.mask[0].numpy()
    return {
        "normals": pictures.normals_to_rgb(maps.normals[0].numpy(), mask),
        "albedo": pictures.image_to_rgb(maps.albedo[0].numpy(), mask),
        "specular": pictures.gray_to_rgb(maps.specular[0].numpy(), mask),
        "depth": pictures.depth_to_rgb(maps.depth[0].numpy(), mask),
        "mask": np.repeat(mask[..., None], 3, 2).astype(np.uint8) * 255,
    }


def _enlarged(image: Float[Tensor, "3 s s"]) -> Picture:
    """An image at the size of the renders, pixels as squares."""
    picture = to_picture(images_to_colors(image))
    return pictures.enlarge(picture, max(1, SIZE // len(picture)))
