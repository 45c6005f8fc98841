"""Render one head from four views under two lights: python render_views_and_lights.py [views.png]"""

import sys

import torch

import lift3d
from lift3d.pictures import grid, save_image
from lift3d.scene.images import to_picture

model = lift3d.load("demo")
head = model.sample(7)[0]

views = torch.zeros(4, 6)  # pitch, yaw, roll (radians), translation
views[:, 1] = torch.tensor([-0.6, -0.2, 0.2, 0.6])
cameras = lift3d.Cameras.from_view(views)
lights = lift3d.Lights.from_direction(torch.tensor([[-1.0, 0.3, 1.0], [1.0, 0.3, 1.0]]))

maps = model.render(head.code, cameras, lights, size=128)
rows = [[to_picture(maps.colors[v, l]) for v in range(4)] for l in range(2)]  # noqa: E741
save_image(sys.argv[1] if len(sys.argv) > 1 else "views.png", grid(rows))
