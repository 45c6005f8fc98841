"""From a photograph to an object that turns and can be relit: python photograph.py [photo.png] [steps]"""

import sys

import torch
from PIL import Image
from skimage.data import astronaut

import lift3d

Image.fromarray(astronaut()).save("astronaut.png")  # in the public domain, by NASA
model = lift3d.load("demo")
photo = lift3d.read_photograph(sys.argv[1] if len(sys.argv) > 1 else "astronaut.png", model)
steps = int(sys.argv[2]) if len(sys.argv) > 2 else None
head = model.refine(photo.image, photo.mask, iterations=steps)  # lift3d invert also says what is doubtful
one = head.sample(0)
views = torch.tensor([[0.0, yaw, 0.0, 0.0, 0.0, 0.0] for yaw in (-0.5, 0.0, 0.5)])
maps = head.render(one.code[0], lift3d.Cameras.from_view(views), one.lights, size=128)
lift3d.save_image("turned.png", torch.cat(list(maps.colors[:, 0]), 1))
lift3d.write_mesh("head.glb", head.mesh(one.code[0]))
