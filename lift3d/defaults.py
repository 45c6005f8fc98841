"""Defaults that commands and functions share, each in this one place; importing them loads nothing else.

What a model's preset decides (truncation, samples along rays) is not here: where nothing is said, it holds.
"""

VIEWS = 3  # per sample of a dataset
LIGHTS = 3  # per view
IMAGE_SIZE = 128  # pixels
MESH_RESOLUTION = 128  # grid cells a side
MESH_FACES = 20_000  # of a mesh that a dataset stores
RENDERERS = ("mesh", "neus")  # the first is the default
GAN_TRUNCATION = 0.7  # psi of samples of a 2D GAN that no preset speaks for
FID_IMAGES = 1_000  # samples that renders and projections are compared with
TEXTURE_SIZE = 1024  # texels a side
EXPORT_FORMAT = "glb"
LAYOUTS = ("png", "nerf", "eg3d", "blenderproc", "webdataset", "usd")  # of converted datasets
UP = "y"  # axis that points up in exported meshes
