"""Write a small dataset and read it in batches: python dataset_in_a_dataloader.py [faces.h5]"""

import sys

from torch.utils.data import DataLoader

import lift3d

path = sys.argv[1] if len(sys.argv) > 1 else "faces.h5"

if __name__ == "__main__":  # workers import this file again
    plan = lift3d.DatasetPlan(n=4, views=3, lights=2, size=64)
    lift3d.write_dataset(lift3d.load("demo"), plan, path)

    faces = lift3d.open_dataset(path, maps=("colors", "normals", "mask"))
    for batch in DataLoader(faces, batch_size=2, shuffle=True, num_workers=1):
        colors = batch.colors.float() / 255  # [sample, view, light, y, x, channel]
        print(batch.index.tolist(), tuple(colors.shape), tuple(batch.normals.shape))
