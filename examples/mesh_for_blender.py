"""A textured head for Blender and everything else that reads glTF: python mesh_for_blender.py [head.glb]"""

import sys

import lift3d
from lift3d.export.objects import finish, from_model

model = lift3d.load("demo")
head = from_model(model, seeds=[7]).instance(7)
finished = finish(head, texels=256, n_faces=5_000)  # albedo, specular intensity and roughness, baked
path = sys.argv[1] if len(sys.argv) > 1 else "head.glb"
lift3d.write_mesh(path, finished.mesh, finished.textures)
print(f"{path}: {finished.mesh}")
