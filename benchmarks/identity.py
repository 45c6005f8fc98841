"""Does a person stay one person when the head turns? An embedding of identity, trained here, is the judge:

    python benchmarks/identity.py --model demo --heads 64

It learns, from renders of ``--people`` heads that neither GAN nor model has seen, to bring two renders of a
head together, whose views and lights differ (NT-Xent, Chen et al. 2020). Then each benchmark head is lifted
from one image and turned by 30 degrees to both sides, under a light of its own each. A triplet is right if
the two renders are nearer to each other than one of them to a render of another head on the other side.
Beside it the same with true renders, with all heads given the mean code, and with samples of the GAN.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from lift3d.evaluation.benchmark import SIZE, SPLIT
from lift3d.model import load
from lift3d.renderers import MeshRenderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images, to_bytes, to_float
from lift3d.scene.lights import Lights
from lift3d.seeds import STREAMS
from lift3d.synthetic.heads import load_head_model, sample_shape
from lift3d.synthetic.paint import sample_look
from lift3d.synthetic.render import LIGHT_PRIOR, render_head, render_painted

FIRST_UNSEEN = 20_000  # head of the split "train" from which on no picture was used
TURN = math.radians(30)
TEMPERATURE = 0.1


class Embedding(nn.Sequential):
    """Unit vectors of 64 numbers, whose products say how alike people are."""

    def __init__(self) -> None:
        widths = (3, 32, 64, 96, 128, 128)
        blocks = []
        for a, b in zip(widths, widths[1:], strict=False):
            blocks += [nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        super().__init__(*blocks, nn.Flatten(), nn.LazyLinear(64))

    def forward(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 64"]:
        return F.normalize(super().forward(images), dim=-1)


def people(n: int) -> UInt8[Tensor, "n 4 3 s s"]:
    """Four renders of each of n heads."""
    return torch.stack(
        [to_bytes(colors_to_images(render_head("train", FIRST_UNSEEN + i, SIZE).image)) for i in range(n)]
    )


def train(images: UInt8[Tensor, "n 4 3 s s"], steps: int, batch: int = 96) -> Embedding:
    """The embedding after ``steps`` steps on ``batch`` heads."""
    rng = torch.Generator().manual_seed(0)
    net = Embedding()
    net(to_float(images[:2, 0]))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, steps)
    for _ in range(steps):
        i = torch.randint(len(images), (batch,), generator=rng)
        pair = torch.stack([torch.randperm(4, generator=rng)[:2] for _ in range(batch)])
        found = net(to_float(torch.cat((images[i, pair[:, 0]], images[i, pair[:, 1]]))))
        alike = found @ found.T / TEMPERATURE - 1e4 * torch.eye(2 * batch)
        partner = torch.arange(2 * batch).roll(batch)
        loss = F.cross_entropy(alike, partner)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def turned(draw: Callable[[int, Cameras, Lights], Tensor], n: int) -> Float[Tensor, "2 n 3 s s"]:
    """n people from the left and from the right; ``draw`` renders one of them."""
    sides = []
    for k, yaw in enumerate((-TURN, TURN)):
        lights = LIGHT_PRIOR.sample(n, torch.Generator().manual_seed(k))
        view = torch.tensor([[0.0, yaw, 0.0, 0.0, 0.0, 0.0]])
        camera = Cameras.from_view(view)
        sides.append(torch.stack([draw(i, camera, Lights.from_vector(lights[i : i + 1])) for i in range(n)]))
    return torch.stack(sides)


@torch.no_grad()
def right(net: Embedding, sides: Float[Tensor, "2 n 3 s s"]) -> float:
    """Share of the triplets that are right, over all pairs of people and both sides."""
    left, other = net(sides[0]), net(sides[1])
    alike = left @ other.T
    own = alike.diagonal()
    others = ~torch.eye(len(alike), dtype=torch.bool)
    return torch.cat(((own[:, None] > alike)[others], (own[None] > alike)[others])).float().mean().item()


def true_head(i: int, cameras: Cameras, lights: Lights) -> Float[Tensor, "3 s s"]:
    """A head of the benchmark itself."""
    heads = load_head_model()
    shape, look = sample_shape(heads, SPLIT, i), sample_look(SPLIT, i)
    mesh = heads.mesh(shape.identity, shape.expression)
    renders = render_painted(mesh, look, heads, cameras.to_view(), lights.to_vector(), SIZE)
    return colors_to_images(renders.image[0])


@torch.no_grad()
def main() -> None:
    """Prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--heads", type=int, default=64)
    parser.add_argument("--people", type=int, default=4_000)
    parser.add_argument("--steps", type=int, default=1_500)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    start = time.perf_counter()
    with torch.enable_grad():
        net = train(people(args.people), args.steps)
    print(f"trained on {args.people} people in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"true renders: {right(net, turned(true_head, args.heads)):.3f}", flush=True)
    model = load(args.model)

    def draw_with(codes: Float[Tensor, "n c"]) -> Callable[[int, Cameras, Lights], Tensor]:
        renderers = [MeshRenderer(model.mesh(code, 64)) for code in codes]

        def draw(i: int, cameras: Cameras, lights: Lights) -> Float[Tensor, "3 s s"]:
            return colors_to_images(model.render(codes[i], cameras, lights, SIZE, renderers[i]).colors[0])[0]

        return draw

    images = colors_to_images(torch.cat([render_head(SPLIT, i, SIZE).image[:1] for i in range(args.heads)]))
    codes = model.image_encoder(images)
    print(f"lifted from an image: {right(net, turned(draw_with(codes), args.heads)):.3f}", flush=True)
    same = codes.mean(0, keepdim=True).expand_as(codes)
    print(f"all with the mean code: {right(net, turned(draw_with(same), args.heads)):.3f}", flush=True)
    seeds = range(STREAMS["relighting"].start, STREAMS["relighting"].start + args.heads)
    sampled = torch.cat([model.sample([seed]).code for seed in seeds])
    print(f"samples of the GAN: {right(net, turned(draw_with(sampled), args.heads)):.3f}", flush=True)


if __name__ == "__main__":
    main()
