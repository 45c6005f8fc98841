"""A generator of another kind: MobileStyleGAN of FFHQ (Belousov et al. 2021), photoreal faces.

    cd examples
    lift3d pretrain --dataset faces.toml --gan face_gan:generator --out faces
    LIFT3D_GENERATOR=face_gan:generator lift3d sample --model faces --out faces.h5

``generator()`` makes it as lifting asks (docs/own-category.md). The weights are in the package random-face on
PyPI as a graph of OpenVINO, which is read into torch here; nothing of the package is run. The graph is cut
after its block of 64 or 128 pixels; a small network per pixel, fitted here once (some minutes), makes colors
of the features. TERMS are said before anything is downloaded. All is kept in lift3d's cache.
"""

import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lift3d.downloads import cache_folder

TERMS = (
    "random-face 2021.7.21.1 (PyPI) says Apache-2.0; its weights were made from FFHQ (CC BY-NC-SA 4.0): take "
    "them, their images and models lifted from them as non-commercial"
)
WHEEL = "random_face-2021.7.21.1-py3-none-any.whl"
CUTS = {64: "ConvTranspose_468", 128: "ConvTranspose_568"}  # the upsampling after the block of that size
DTYPES = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "f16": np.float16}
N_FIT, FIT_STEPS, N_MEAN = 24, 1500, 500


def generator(size: int = 64) -> "FaceGan":
    """The GAN at 64 x 64 pixels, downloaded and fitted unless that was done before."""
    wheel = cache_folder() / WHEEL
    if not wheel.exists():
        print(TERMS, file=sys.stderr)
        command = ["pip", "download", "random-face==2021.7.21.1", "--no-deps", "-q", "-d", str(wheel.parent)]
        subprocess.run([sys.executable, "-m", *command], check=True)
    return FaceGan(wheel, size)


def generator_128() -> "FaceGan":
    """The GAN at 128 x 128 pixels."""
    return generator(128)


class FaceGan(nn.Module):
    """z -> w -> image of ``size`` pixels, 64 or 128, in about [-1, 1]."""

    z_dim = w_dim = h_dim = 512

    def __init__(self, wheel: Path, size: int = 64, head: Path | None = None) -> None:
        super().__init__()
        with zipfile.ZipFile(wheel) as z:
            self.mapping, self.network = (
                Graph(*(z.read(f"random_face/data/{name}Network.{kind}") for kind in ("xml", "bin")))
                for name in ("Mapping", "Synthesis")
            )
        self.resolution, self.cut = size, self.network.split_before(CUTS[size])
        z = torch.randn(N_MEAN, self.z_dim, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            w = self.to_w(z)
        self.register_buffer("w_avg", w.mean(0))
        self.register_buffer("w_std", w.std(0))
        head = head or wheel.parent / f"face-gan-{size}.safetensors"
        self.head = load_head(head) if head.exists() else self.fit_head(head)

    def to_w(self, z: Tensor) -> Tensor:
        return torch.cat([self.mapping(row) for row in z.split(1)])

    def to_image(self, w: Tensor) -> Tensor:
        return torch.cat([self.colors(self.network(part, self.cut)) for part in w.split(4)])

    def colors(self, features: Tensor) -> Tensor:
        return self.head(per_pixel(features)).permute(0, 3, 1, 2)

    def offset(self, step: Tensor) -> Tensor:
        return self.w_std * step

    def styles(self, w: Tensor) -> Tensor:
        return w

    def fit_head(self, path: Path) -> nn.Module:
        """The network per pixel, fitted to whole images scaled down and kept in ``path``."""
        print(f"fitting colors to {N_FIT} images of 1024 pixels", file=sys.stderr)
        rng = torch.Generator().manual_seed(1)
        w = self.w_avg.lerp(self.to_w(torch.randn(N_FIT, self.z_dim, generator=rng)), 0.75)
        x, y = [], []
        with torch.no_grad():
            for one in w.split(1):
                colors = F.interpolate(self.network(one), (self.resolution,) * 2, mode="area")
                x.append(per_pixel(self.network(one, self.cut)).flatten(0, 2))
                y.append(colors[0].flatten(1).T)
        x, y = torch.cat(x), torch.cat(y)
        head = new_head(x.shape[1])
        optimizer = torch.optim.AdamW(head.parameters(), 2e-3, weight_decay=1e-2)
        for step in range(FIT_STEPS):
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / FIT_STEPS)
            i = torch.randint(len(x), (4096,), generator=rng)
            optimizer.zero_grad()
            (head(x[i]) - y[i]).square().mean().backward()
            optimizer.step()
        save_file(head.state_dict(), path)
        return head


def new_head(n_in: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 3))


def load_head(path: Path) -> nn.Sequential:
    tensors = load_file(path)
    head = new_head(tensors["0.weight"].shape[1])
    head.load_state_dict(tensors)
    return head


def per_pixel(features: Tensor) -> Tensor:
    """[n, c, h, w] -> [n, h, w, c + 2]: features of unit mean square, and the logs of two sizes: theirs, the
    image's.
    """
    f = features.permute(0, 2, 3, 1)
    size = f.square().mean(-1, keepdim=True).add(1e-12).sqrt()
    whole = f.square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt().log()
    return torch.cat((f / size, size.log(), whole.expand_as(size)), -1)


class Graph(nn.Module):
    """A graph of OpenVINO (IR version 10) with one input, as a function in torch, also of its inner nodes.

    A value is named by (node, output port)."""

    def __init__(self, xml: bytes, weights: bytes) -> None:
        super().__init__()
        root = ET.fromstring(xml)
        self.nodes, self.edges, self.orders = {}, {}, {}
        for layer in root.find("layers"):
            data = layer.find("data")
            ports = [[p.get("id") for p in layer.find(kind) or []] for kind in ("input", "output")]
            self.nodes[layer.get("id")] = (
                layer.get("type"),
                {} if data is None else dict(data.attrib),
                *ports,
            )
        for edge in root.find("edges"):
            self.edges[edge.get("to-layer"), edge.get("to-port")] = (
                edge.get("from-layer"),
                edge.get("from-port"),
            )
        for key, (kind, a, _, _) in self.nodes.items():
            if kind == "Const":
                shape = [int(x) for x in a["shape"].split(",") if x.strip()]
                value = np.frombuffer(
                    weights, DTYPES[a["element_type"]], int(np.prod(shape)), int(a["offset"])
                )
                self.register_buffer(f"c{key}", torch.from_numpy(value.reshape(shape).copy()))
        self.ids = {layer.get("name"): layer.get("id") for layer in root.find("layers")}
        self.result = self.source(next(k for k, n in self.nodes.items() if n[0] == "Result"))

    def source(self, key: str) -> tuple[str, str]:
        """The value that a node reads first."""
        return self.edges[key, self.nodes[key][2][0]]

    def split_before(self, name: str) -> tuple[str, str]:
        """What the wavelet upsampling called ``name`` splits into its bands: all features before it."""
        key = self.source(self.ids[name])[0]
        while self.nodes[key][0] != "VariadicSplit":
            key = self.source(key)[0]
        return self.source(key)

    def order(self, target: str) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
        """The nodes that ``target`` needs, each after those it needs; the values that each reads last."""
        if target not in self.orders:
            found: dict[str, None] = {}
            stack = [(target, False)]
            while stack:
                key, ready = stack.pop()
                if ready:
                    found[key] = None
                elif key not in found:
                    stack += [(key, True), *((self.edges[key, p][0], False) for p in self.nodes[key][2])]
            done: dict[str, list[tuple[str, str]]] = {}
            for value, key in {self.edges[k, p]: k for k in found for p in self.nodes[k][2]}.items():
                done.setdefault(key, []).append(value)
            self.orders[target] = list(found), done
        return self.orders[target]

    def forward(self, x: Tensor, until: tuple[str, str] | None = None) -> Tensor:
        target, values = until or self.result, {}
        nodes, done = self.order(target[0])
        for key in nodes:
            values |= self.evaluate(key, x, values)
            for value in done.get(key, []):
                del values[value]
        return values[target]

    def evaluate(self, key: str, x: Tensor, values: dict[tuple[str, str], Tensor]) -> dict:
        """The outputs of one node."""
        kind, a, ins, outs = self.nodes[key]
        v = [values[self.edges[key, p]] for p in ins]
        if kind == "VariadicSplit":
            parts = torch.split(v[0], whole(v[2]), int(v[1]))
            return {(key, port): part for port, part in zip(outs, parts)}
        if kind == "Result":
            return {}
        if kind == "Const":
            return {(key, outs[0]): getattr(self, f"c{key}")}
        return {(key, outs[0]): x if kind == "Parameter" else OPERATIONS[kind](a, *v)}


def whole(t: Tensor) -> list[int]:
    return [int(q) for q in t.reshape(-1)]


def numbers(text: str) -> list[int]:
    return [int(q) for q in text.split(",")]


def matmul(a: dict, x: Tensor, y: Tensor) -> Tensor:
    x, y = (t.mT if a.get(f"transpose_{n}") == "true" else t for t, n in ((x, "a"), (y, "b")))
    return x @ y


def prelu(a: dict, x: Tensor, slope: Tensor) -> Tensor:
    slope = slope.reshape([1, -1] + [1] * (x.ndim - 2)) if slope.numel() > 1 else slope.reshape(())
    return torch.where(x >= 0, x, x * slope)


def gather(a: dict, x: Tensor, index: Tensor, axis: Tensor) -> Tensor:
    axis, flat = int(axis), x.index_select(int(axis), index.reshape(-1).long())
    return flat.reshape(x.shape[:axis] + index.shape + x.shape[axis + 1 :])


def unsqueeze(a: dict, x: Tensor, axes: Tensor) -> Tensor:
    for axis in sorted(whole(axes)):
        x = x.unsqueeze(axis)
    return x


def squeeze(a: dict, x: Tensor, axes: Tensor) -> Tensor:
    return x.squeeze(tuple(whole(axes)))


def reshape(a: dict, x: Tensor, shape: Tensor) -> Tensor:
    keep = a.get("special_zero") == "true"
    return x.reshape([x.shape[i] if n == 0 and keep else n for i, n in enumerate(whole(shape))])


def broadcast(a: dict, x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(whole(shape))))


def convolution(a: dict, x: Tensor, w: Tensor) -> Tensor:
    (top, left), (bottom, right) = numbers(a["pads_begin"]), numbers(a["pads_end"])
    groups = w.shape[0] if w.ndim == 5 else 1
    w = w.flatten(0, 1) if w.ndim == 5 else w
    x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, w, None, numbers(a["strides"]), 0, numbers(a["dilations"]), groups)


def deconvolution(a: dict, x: Tensor, w: Tensor) -> Tensor:
    extra = numbers(a["output_padding"]) if "output_padding" in a else [0, 0]
    pads, dilations = numbers(a["pads_begin"]), numbers(a["dilations"])
    strides = numbers(a["strides"])
    return F.conv_transpose2d(x, w.flatten(0, 1), None, strides, pads, extra, w.shape[0], dilations)


OPERATIONS = {  # attributes and inputs -> output
    "Add": lambda a, x, y: x + y,
    "Multiply": lambda a, x, y: x * y,
    "Power": lambda a, x, y: x**y,
    "ReduceMean": lambda a, x, axes: x.mean(whole(axes), keepdim=a.get("keep_dims") == "true"),
    "MatMul": matmul,
    "PReLU": prelu,
    "Concat": lambda a, *parts: torch.cat(parts, int(a["axis"])),
    "ShapeOf": lambda a, x: torch.tensor(x.shape),
    "Gather": gather,
    "Unsqueeze": unsqueeze,
    "Squeeze": squeeze,
    "Reshape": reshape,
    "Tile": lambda a, x, times: x.tile(whole(times)),
    "Broadcast": broadcast,
    "Convolution": convolution,
    "GroupConvolution": convolution,
    "GroupConvolutionBackpropData": deconvolution,
}
