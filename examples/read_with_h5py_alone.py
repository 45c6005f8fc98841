"""A dataset without lift3d: python read_with_h5py_alone.py faces.h5 [sheet.png]"""

import sys

import h5py
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

with h5py.File(sys.argv[1]) as faces:
    sample = int(faces["done"][:].nonzero()[0][0])  # the first whole one
    colors, mask = faces["colors"][sample, 0, 0], faces["mask"][sample, 0]
    normals, depth = faces["normals"][sample, 0].astype("float32"), faces["depth"][sample, 0]
    print(faces["depth"].attrs["description"], "in", faces["depth"].attrs["units"])

figure, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 3))
left.imshow(colors)
middle.imshow((normals + 1) / 2 * mask[..., None])
right.imshow(depth, vmin=depth[mask > 0].min(), vmax=depth[mask > 0].max())
figure.savefig(sys.argv[2] if len(sys.argv) > 2 else "sheet.png")
