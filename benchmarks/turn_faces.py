"""Samples of a lifted face GAN and their renders at five yaws, for judge_faces.py:

LIFT3D_GENERATOR=face_gan:generator python turn_faces.py faces turned 40
"""

import math
import sys
from pathlib import Path

import torch

import lift3d
from lift3d.pictures import save_image
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import placed
from lift3d.scene.images import images_to_colors

YAWS = (-30, -15, 0, 15, 30)

if __name__ == "__main__":
    model, out = lift3d.load(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    views = torch.zeros(len(YAWS), 6)
    views[:, 1] = torch.tensor([math.radians(yaw) for yaw in YAWS])
    cameras = lift3d.Cameras.from_view(placed(views, model.config.view_prior.pivot))
    for seed in range(int(sys.argv[3])):
        sample = model.sample([seed])
        save_image(out / f"{seed}-own.png", images_to_colors(sample.image[0]).clamp(0, 1))
        renderer = MeshRenderer(model.mesh(sample.code[0], 96))
        light = lift3d.Lights.from_vector(sample.light)
        renders = model.render(sample.code[0], cameras, light, 128, renderer)
        for yaw, colors in zip(YAWS, renders.colors[:, 0], strict=True):
            save_image(out / f"{seed}-{yaw}.png", colors)
