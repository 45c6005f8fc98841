"""Train a network that sees normals in images: python train_normals_from_images.py faces.h5 [seconds]"""

import sys
import time

import torch
from torch.utils.data import DataLoader

import lift3d

shown = {"maps": ("colors", "normals", "mask"), "flat": True, "normals_frame": "camera"}
train, val = (lift3d.open_dataset(sys.argv[1], split=part, **shown) for part in ("train", "val"))
layers = [(3, 1), (32, 2), (32, 4), (32, 8), (32, 1)]  # channels, dilation
layers = [(torch.nn.Conv2d(c, 32, 3, padding=d, dilation=d), torch.nn.ReLU()) for c, d in layers]
net = torch.nn.Sequential(*sum(layers, ()), torch.nn.Conv2d(32, 3, 1))


def cosines(batch):  # between the normals that the network sees and the true ones
    seen = torch.nn.functional.normalize(net(batch.colors.movedim(-1, 1) / 255), dim=1)
    return (seen.movedim(1, -1) * batch.normals).sum(-1)[batch.mask].clamp(-0.9999, 0.9999)


optimizer = torch.optim.Adam(net.parameters(), 2e-3)
end = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 60)
while time.monotonic() < end:
    optimizer.zero_grad()
    (1 - cosines(next(iter(DataLoader(train, 16, shuffle=True))))).mean().backward()
    optimizer.step()
errors = torch.cat([cosines(batch).detach().arccos() for batch in DataLoader(val, 16)])
print(f"mean error on the val split: {errors.rad2deg().mean():.1f} degrees")
