"""Does the fast step of exploit learn what a step with the structure of NeuS' renderer learns?

    OMP_NUM_THREADS=1 python benchmarks/train_curves.py --out curves.png [--steps 150]

New fields of the demo's sizes learn the bundled model's objects: rays of random views and lights, with the
codes of samples given, from the colors that the bundled model shows there. Both structures (train_steps.py)
start from the same parameters and see the same rays; losses are L1 and eikonal. Drawn are L1 by step and by
CPU seconds of the steps (with several threads or a GPU: of the clock), printed the means of the last fifth.
"""

import argparse
import copy
import time
from collections.abc import Callable

import matplotlib
import torch
from torch import Tensor
from train_steps import Color, ours, reference

import lift3d
from lift3d import losses
from lift3d.model import LiftedGAN
from lift3d.networks.products import fast_products
from lift3d.render.volume import render_rays, trace
from lift3d.scene.cameras import Cameras
from lift3d.scene.lights import Lights

matplotlib.use("Agg")
import matplotlib.pyplot as plt

N_OBJECTS, N_RAYS, SMOOTH = 8, 64, 15


def untrained(model: LiftedGAN) -> LiftedGAN:
    """The model with new fields."""
    fresh = LiftedGAN(model.config, model.generator)
    student = copy.copy(model)
    student._modules = {**model._modules, "shape": fresh.shape, "material": fresh.material}
    student._parameters = {**model._parameters, "log_sharpness": fresh.log_sharpness}
    return student


def curve(
    model: LiftedGAN, teacher: LiftedGAN, render: Callable[..., Color], n_steps: int
) -> tuple[Tensor, Tensor]:
    """L1 of every step, and the seconds until its end."""
    config, rng = model.config, torch.Generator().manual_seed(0)
    codes = teacher.sample(range(N_OBJECTS)).code
    parameters = [*model.shape.parameters(), *model.material.parameters(), model.log_sharpness]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, config.rates.fields)
    alone = torch.get_num_threads() == 1 and model.device.type == "cpu"
    clock = time.process_time if alone else time.perf_counter
    found, seconds, spent = [], [], 0.0
    for _ in range(n_steps):
        views, lights = (prior.sample(N_OBJECTS, rng) for prior in (config.view_prior, config.light_prior))
        position = config.size * torch.rand(N_OBJECTS, N_RAYS, 2, generator=rng)
        rays = Cameras.from_view(views).rays(position, config.size)
        lamps = Lights.from_vector(lights)
        with torch.no_grad():
            seen = trace(teacher.surface(codes), *rays, teacher.sharpness, config.sampling)
            target = render_rays(seen, rays[1], lamps, 1.0)
        start = clock()
        optimizer.zero_grad(set_to_none=True)
        color, gradient, share = render(model, codes, rays, lamps, False)
        l1 = losses.l1(color, target)
        (l1 + config.weights.eikonal * losses.eikonal(gradient, share)).backward()
        optimizer.step()
        spent += clock() - start
        found.append(l1.item())
        seconds.append(spent)
    return torch.tensor(found), torch.tensor(seconds)


def smoothed(values: Tensor) -> Tensor:
    """Means of the last ``SMOOTH`` steps."""
    return values.unfold(0, min(SMOOTH, len(values)), 1).mean(-1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="picture")
    parser.add_argument("--steps", type=int, default=150)
    given = parser.parse_args()
    teacher = lift3d.load("demo").requires_grad_(False)
    torch.manual_seed(0)
    student = untrained(teacher)
    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    means = []
    for name, render in (("NeuS' structure", reference), ("lift3d", fast_products()(ours))):
        l1, seconds = curve(copy.deepcopy(student), teacher, render, given.steps)
        means.append((l1[-max(1, given.steps // 5) :].mean().item(), seconds[-1].item()))
        print(f"{name}: L1 {means[-1][0]:.4f} in the last fifth, {means[-1][1]:.1f} s")
        y = smoothed(l1)
        by_step.plot(torch.arange(len(y)) + len(l1) - len(y), y, label=name)
        by_time.plot(seconds[-len(y) :], y, label=name)
    (one, slow), (other, fast) = means
    print(f"L1 differs by {100 * (other / one - 1):+.1f} %, {slow / fast:.1f} times as fast")
    by_step.set(xlabel="step", ylabel=f"L1, mean of {SMOOTH} steps")
    by_time.set(xlabel="seconds of steps")
    by_step.legend(frameon=False)
    figure.savefig(given.out, dpi=120)


if __name__ == "__main__":
    main()
