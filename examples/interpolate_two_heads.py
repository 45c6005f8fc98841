"""Walk from one head to another, in shape and material: python interpolate_two_heads.py [walk.png]"""

import sys

import torch

import lift3d
from lift3d.pictures import grid, save_image
from lift3d.scene.images import to_picture

model = lift3d.load("demo")
first, last = model.sample([3, 7])
camera = lift3d.Cameras.from_view(torch.tensor([0.0, 0.4, 0.0, 0.0, 0.0, 0.0]))
light = lift3d.Lights.from_direction(torch.tensor([-0.5, 0.3, 1.0]))

steps = []
for t in torch.linspace(0.0, 1.0, 6):
    maps = model.render(first.code.lerp(last.code, t), camera, light, size=128)
    steps.append(to_picture(maps.colors[0, 0]))
save_image(sys.argv[1] if len(sys.argv) > 1 else "walk.png", grid([steps]))
