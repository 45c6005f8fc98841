"""How long do the field steps of the training take, against steps with the structure of NeuS' renderer?

    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --preset celeba-hq
    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --preset demo --model demo

Both structures train the same networks on the same pixels with the same losses (L1 and, in exploit,
eikonal), encoders and Adam included. What no renderer changes (perceptual distance, view-light consistency)
is left out.
The reference (after Totoro97/NeuS, ``up_sample`` and ``render_core``) places samples in four rounds of
evaluations, evaluates F_s once for its value and once more for its gradient, and differentiates and shades
every sample, by automatic differentiation in single precision. They take turns, and the minimum of several
counts. Besides: the arithmetic of the field evaluation of exploit (F_s with gradient, forwards and backwards)
as a share of the measured rate of matrix products. Ours draws other distances than the reference, and its
explore has one surface point a pixel and no background, so its L1 there is another.

On a CPU, PyTorch's softplus of large arguments works on denormal numbers, which is slow. The reference
suffers, ours avoids it by construction; ``--flush-denormals`` shows what is left without them.
"""

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift3d import losses
from lift3d.config.presets import get_preset
from lift3d.gan.config import GeneratorConfig
from lift3d.gan.stylegan2 import Generator
from lift3d.model import LiftedGAN, load
from lift3d.networks.fields import condition_reference
from lift3d.networks.products import fast_products
from lift3d.networks.softplus_mlp import value_and_gradient
from lift3d.render.ray_sampling import from_weights, stratified
from lift3d.render.surface_hits import first_hits
from lift3d.render.volume import alphas, alphas_from_ends, render_rays, trace, weights_from_alphas
from lift3d.scene.cameras import Cameras, pixel_grid
from lift3d.scene.geometry import ray_sphere
from lift3d.scene.lights import Lights
from lift3d.scene.shading import shade
from lift3d.scene.surface import sdf_and_gradient, smooth_normal

ROUNDS = 4  # of the reference's placement; the sharpness doubles from 64 on
Color = tuple[Float[Tensor, "b r 3"], Float[Tensor, "*s 3"], Float[Tensor, "*s"]]  # color, gradients, shares


def reference(
    model: LiftedGAN, code: Tensor, rays: tuple[Tensor, Tensor], lights: Lights, fixed: bool
) -> Color:
    """The reference renderer; ``fixed``: the shape does not train (explore)."""
    origins, directions = rays
    config, bands = model.config.sampling, float(model.open_bands)
    surface = condition_reference(model.shape, model.material, code, bands)

    def at(t: Tensor) -> Tensor:
        return (origins[..., None, :] + t[..., None] * directions[..., None, :]).flatten(1, 2)

    with torch.no_grad():
        near, far, _ = ray_sphere(origins, directions)
        t = stratified(near, far, config.n_coarse, None)
        sdf = surface.sdf(at(t))[0].view_as(t)
        for i in range(ROUNDS):
            weights = weights_from_alphas(alphas_from_ends(sdf, 64.0 * 2**i))
            new = from_weights(t, weights, config.n_fine // ROUNDS, None)
            sdf = torch.cat((sdf, surface.sdf(at(new))[0].view_as(new)), -1)
            t, order = torch.cat((t, new), -1).sort(-1)
            sdf = sdf.gather(-1, order)
        delta = t.diff()
        middle = t[..., :-1] + delta / 2
    points = at(middle)
    sdf, feature = surface.sdf(points)
    gradient = sdf_and_gradient(surface, points, create_graph=not fixed)[2]
    if fixed:
        sdf, feature, gradient = sdf.detach(), feature.detach(), gradient.detach()
    normal = smooth_normal(gradient)
    material = surface.material(points, normal, feature)
    along = directions[..., None, :].expand(*middle.shape, 3)
    slope = (gradient.view_as(along) * along).sum(-1)
    alpha = alphas(sdf.view_as(middle), -torch.relu(-slope), delta, model.sharpness)
    weights = weights_from_alphas(alpha)
    colors = shade(normal, -along.flatten(1, 2), material, lights.per_point(1)).view_as(along)
    color = (weights[..., None] * colors).sum(-2) + 1.0 - weights.sum(-1, keepdim=True)
    return color, gradient, torch.ones_like(gradient[..., 0])


def ours(model: LiftedGAN, code: Tensor, rays: tuple[Tensor, Tensor], lights: Lights, fixed: bool) -> Color:
    """What the training does."""
    surface = model.surface(code)
    if fixed:
        t, _ = first_hits(surface, *rays)
        points = rays[0] + t[..., None] * rays[1]
        _, feature, gradient = sdf_and_gradient(surface, points, create_graph=False)
        feature, gradient = feature.detach(), gradient.detach()
        normal = smooth_normal(gradient)
        material = surface.material(points, normal, feature)
        color = shade(normal, -rays[1], material, lights.per_point(1))
        return color, gradient, torch.ones_like(t)
    rng = torch.Generator().manual_seed(0)
    traced = trace(surface, *rays, model.sharpness, model.config.sampling, rng, create_graph=True)
    return render_rays(traced, rays[1], lights, 1.0), traced.gradient, traced.share


def pixels(model: LiftedGAN, n: int, rng: torch.Generator) -> Float[Tensor, "b r 2"]:
    """Random pixels as the training draws them: rarely far from the object."""
    size, b = model.config.size, model.config.batch.n_images
    grid = pixel_grid(size, model.device)
    surface = model.surface(torch.zeros(1, model.config.n_code, device=model.device))
    rays = Cameras.from_view(torch.zeros(1, 6, device=model.device)).rays(grid[None], size)
    hit = first_hits(surface, *rays)[1].view(1, 1, size, size).float()
    near = F.max_pool2d(hit, 2 * (size // 16) + 1, 1, size // 16).clamp_min(0.1).flatten()
    return grid[torch.multinomial(near.cpu(), b * (n // b), True, generator=rng)].view(b, -1, 2)


def step(model: LiftedGAN, render: Callable[..., Color], explore: bool) -> Callable[[], float]:
    """One iteration of explore or exploit, with its own optimizer; returns the L1."""
    config, rng = model.config, torch.Generator().manual_seed(0)
    position = pixels(model, config.batch.n_rays, rng)
    image = (2 * torch.rand(len(position), 3, config.size, config.size, generator=rng) - 1).to(model.device)
    target = torch.rand(*position.shape[:2], 3, generator=rng).to(model.device)
    networks = [model.material, model.image_encoder]
    if not explore:
        networks += [model.shape, model.view_encoder, model.light_encoder]
    parameters = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.Adam(parameters, 0.0)  # a rate of 0: every iteration does the same

    def iterate() -> float:
        model.requires_grad_(False)
        for p in parameters:
            p.requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        view, light = model.view_encoder(image), model.light_encoder(image)
        rays = Cameras.from_view(view).rays(position, config.size)
        code = model.image_encoder(image)
        color, gradient, share = render(model, code, rays, Lights.from_vector(light), explore)
        l1 = losses.l1(color, target)
        (l1 if explore else l1 + config.weights.eikonal * losses.eikonal(gradient, share)).backward()
        optimizer.step()
        return l1.item()

    return fast_products()(iterate) if render is ours else iterate


def best(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of each, the minimum over turns: of the processor, where one thread of it does the work."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    times = [[] for _ in functions]
    for _ in range(repeats):
        for function, found in zip(functions, times, strict=True):
            start = clock()
            function()
            found.append(clock() - start)
    return [min(found) for found in times]


def share_of_limit(model: LiftedGAN, repeats: int) -> tuple[float, float]:
    """GFLOP/s of matrix products, and the share of it that F_s reaches with gradient, both ways."""
    n, device = 2048, model.device
    width = len(model.shape.head.weight[0])
    a, w = torch.rand(n, width, device=device), torch.rand(width, width, device=device)
    (seconds,) = best([lambda: (a @ w).sum().item() if device.type != "cpu" else a @ w], 50)
    rate = 2 * n * width**2 / seconds
    coded = model.shape.requires_grad_(True).of(torch.zeros(8, model.config.n_code, device=device))
    x = torch.rand(8, 1000, coded.mlp.weights[0].shape[1], device=device)
    flops = 6 * 2 * 8000 * sum(weight.numel() for weight in coded.mlp.weights)

    def field() -> None:
        value, feature, gradient = value_and_gradient(coded.mlp, x)
        wanted = [*coded.mlp.weights, *coded.mlp.biases]
        torch.autograd.grad(value.sum() + feature.sum() + gradient.square().sum(), wanted, retain_graph=True)

    (seconds,) = best([field], repeats)
    return rate / 1e9, flops / seconds / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="celeba-hq", help="sizes and batches")
    parser.add_argument("--model", help="trained weights instead of random ones")
    parser.add_argument("--steps", nargs="+", default=["explore", "exploit"], choices=["explore", "exploit"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--flush-denormals", action="store_true")
    options = parser.parse_args()
    torch.set_flush_denormal(options.flush_denormals)
    torch.manual_seed(0)
    if options.model:
        model = load(options.model)
    else:
        channels = tuple(min(64, 16384 // (4 << i)) for i in range(5))  # no field step runs the GAN
        model = LiftedGAN(get_preset(options.preset), Generator(GeneratorConfig(channels)))
    model = model.to(options.device)
    rate, reached = share_of_limit(model, options.repeats)
    print(f"matrix products {rate:.0f} GFLOP/s; F_s with gradient, both ways: {100 * reached:.0f} % of that")
    for name in options.steps:
        steps = [step(model, render, explore=name == "explore") for render in (ours, reference)]
        l1 = [iterate() for iterate in steps]
        seconds = best(steps, options.repeats)
        print(
            f"{name}: ours {seconds[0]:.3f} s (L1 {l1[0]:.4f}), "
            f"reference {seconds[1]:.3f} s (L1 {l1[1]:.4f}), ratio {seconds[1] / seconds[0]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
