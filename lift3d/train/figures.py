"""Sheets of pictures and curves of a training run: what to look at after every stage."""

import json
from pathlib import Path

import torch

from lift3d import pictures, plots
from lift3d.model import LiftedGAN
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras, placed
from lift3d.scene.images import to_float, to_picture
from lift3d.scene.lights import Lights
from lift3d.train.data import Images, SampleSet

N_OBJECTS = 8


def projections(samples: SampleSet, pseudo: Images, projected: Images, path: Path) -> None:
    """The paper's Fig. 4: per object one row of re-rendered images and one of their projections, own image
    first.
    """
    objects = zip(samples.images[:N_OBJECTS], pseudo.images, projected.images)
    rows = [[own, *images[:9]] for own, *both in objects for images in both]
    pictures.save_image(path, pictures.grid([[x.permute(1, 2, 0).numpy() for x in row] for row in rows]))


@torch.no_grad()
def intrinsics(model: LiftedGAN, samples: SampleSet, path: Path) -> None:
    """The paper's Figs. 2 and 3: input, reconstruction, normals, albedo, specularity, two relit and two
    turned images.
    """
    rows = []
    for i in range(min(N_OBJECTS, len(samples.w))):
        image = to_float(samples.images[i : i + 1].to(model.device))
        (code,), view, light = model.encode(image)
        lights = light.repeat(3, 1)
        lights[1:, 1:4] = light.new_tensor([[0.7, -1.0, 0.3], [0.7, 1.0, 0.3]])
        pivot = model.config.view_prior.pivot
        turned = placed(view, [-p for p in pivot]).repeat(3, 1)
        turned[1, 1], turned[2, 1] = -0.5, 0.5
        turned = placed(turned, pivot)
        setting = Cameras.from_view(turned), Lights.from_vector(lights), model.config.size
        out = model.render(code, *setting, MeshRenderer(resolution=64)).to("cpu")
        colors = to_picture(out.colors)
        mask = out.mask[0].numpy()
        maps = (
            pictures.normals_to_rgb(out.normals[0].numpy(), mask),
            pictures.image_to_rgb(out.albedo[0].numpy(), mask),
            pictures.gray_to_rgb(out.specular[0].numpy(), mask),
        )
        turned_and_lit = (colors[0, 1], colors[0, 2], colors[1, 0], colors[2, 0])
        rows.append([samples.images[i].permute(1, 2, 0).numpy(), colors[0, 0], *maps, *turned_and_lit])
    pictures.save_image(path, pictures.grid(rows))


def curves(log: Path, folder: Path) -> None:
    """One picture per phase, ``curves-<phase>.png``: logged means over all stages' steps, logarithmic."""
    phases: dict[str, dict[str, list[tuple[float, float]]]] = {}
    last: dict[str, tuple[int, float, float]] = {}  # stage, steps before it, steps
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        phase, stage, step = entry.pop("phase"), entry.pop("stage"), entry.pop("step")
        then, before, x = last.get(phase, (stage, 0.0, 0.0))
        before = before if stage == then else x
        x = before + step
        last[phase] = stage, before, x
        for name, value in entry.items():
            if name != "gradient" and value > 0:
                phases.setdefault(phase, {}).setdefault(name, []).append((x, value))
    for phase, series in phases.items():
        picture = plots.curves(series, (900, 480), phase, log_y=True)
        pictures.save_image(folder / f"curves-{phase}.png", picture)
