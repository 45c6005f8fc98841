"""How long do the steps of the training take, against steps with the structure of the published ones?

    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --preset celeba-hq --flush-denormals
    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --preset demo --model demo
    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --steps align --images 4 --repeats 2
    OMP_NUM_THREADS=1 python benchmarks/train_steps.py --table

Field steps (explore, exploit) stand beside steps with the structure of NeuS' renderer. Both structures train
the same networks on the same pixels with the same losses (L1 and, in exploit, eikonal), encoders and Adam
included. What no renderer changes (perceptual distance, view-light consistency) is left out.
The reference (after Totoro97/NeuS, ``up_sample`` and ``render_core``) places samples in four rounds of
evaluations, evaluates F_s once for its value and once more for its gradient, and differentiates and shades
every sample, by automatic differentiation in single precision. They take turns, and the minimum of several
counts. Ours multiplies matrices as the training does (``fast_products``), the reference as PyTorch does by
default. Ours draws other distances than the reference, and its explore has one surface point a pixel and no
background, so its L1 there is another.

The reference of align is the published StyleGAN2 with random weights of the published widths: filters of
every image of its own by grouped convolutions, FIR filters over inserted zeros, channels first. Losses,
encoders and discriminator are the same.

Besides: the arithmetic of the field evaluation of exploit (F_s with gradient, forwards and backwards) as a
share of the measured rate of matrix products, by PyTorch's default or ``fast_products``. ``--table`` prints
seconds of a step of exploit by width, rays, samples and images, and the share of them that matrix products of
the fields alone would take at that rate, for the points that are evaluated.

On a CPU, PyTorch's softplus of large arguments works on denormal numbers, which is slow. The reference
suffers, ours avoids it by construction; ``--flush-denormals`` shows what is left without them.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lift3d import losses
from lift3d.config.presets import get_preset
from lift3d.config.schema import Preset
from lift3d.gan import ops
from lift3d.gan.config import DiscriminatorConfig, GeneratorConfig, channels_for
from lift3d.gan.stylegan2 import Discriminator, Generator
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
from lift3d.train.align import align_loss
from lift3d.train.data import Images, SampleSet

STEPS = ["explore", "align", "exploit"]
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


def align(model: LiftedGAN, features: Callable, published: bool) -> Callable[[], float]:
    """One iteration of step 2 on random images; returns its loss."""
    n, size = model.config.batch.n_align, model.config.size
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(256, (2, n, 3, size, size), generator=rng, dtype=torch.uint8)
    masks = torch.rand(2, n, size, size, generator=rng) > 0.5
    latents = torch.randn(n, model.generator.w_dim, generator=rng)
    samples = SampleSet(images[0], masks[0], w=latents, seeds=torch.arange(n))
    pseudo = Images(images[1][:, None], masks[1][:, None])
    parameters = list(model.gan_encoder.parameters())
    optimizer = torch.optim.Adam(parameters, 0.0)

    def iterate() -> float:
        model.requires_grad_(False)
        for p in parameters:
            p.requires_grad_(True)
        optimizer.zero_grad(set_to_none=True)
        fixed = torch.Generator().manual_seed(0)
        loss = align_loss(model, samples, pseudo, features, fixed, masked=True, consistency=0.0)["total"]
        loss.backward()
        optimizer.step()
        return loss.item()

    def as_published() -> float:
        before = ops.modulated_conv2d, ops.upsample
        ops.modulated_conv2d, ops.upsample = grouped_conv2d, ops.upsample_reference
        try:
            return iterate()
        finally:
            ops.modulated_conv2d, ops.upsample = before

    return as_published if published else fast_products()(iterate)


def grouped_conv2d(
    x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True, up: bool = False, gain: float = 1.0,
    eps: float = 1e-8,
) -> Tensor:  # fmt: skip
    """``modulated_conv2d`` with filters of every image of its own, channels first."""
    n, i, h, w = x.shape
    o, k = weight.shape[0], weight.shape[-1]
    filters = weight * style[:, None, :, None, None]
    if demodulate:
        filters = filters * (filters.square().sum((2, 3, 4), keepdim=True) + eps).rsqrt()
    x = x.reshape(1, n * i, h, w)
    if up:
        y = F.conv_transpose2d(x, filters.transpose(1, 2).reshape(n * i, o, k, k), stride=2, groups=n)
        return ops.blur(y.view(n, o, *y.shape[2:]), padding=1, gain=4.0) * gain
    y = F.conv2d(x, filters.reshape(n * o, i, k, k), padding=k // 2, groups=n)
    return y.view(n, o, h, w) * gain


def align_steps(config: Preset, device: str) -> list[Callable[[], float]]:
    """Ours and the published one, of the same random weights."""
    steps = []
    for published in (False, True):
        torch.manual_seed(0)
        channels = channels_for(config.size, 16384, 512)
        model = LiftedGAN(config, Generator(GeneratorConfig(channels))).to(device)
        discriminator = Discriminator(DiscriminatorConfig(channels)).to(device).requires_grad_(False)
        if published:
            model.generator.to(memory_format=torch.contiguous_format)
            discriminator.to(memory_format=torch.contiguous_format)
        steps.append(align(model, partial(discriminator.features, n_blocks=4), published))
    return steps


def product_rate(width: int, device: torch.device) -> float:
    """FLOP/s of matrix products of 2048 rows, by PyTorch's default or ``fast_products``."""
    a, w = torch.rand(2048, width, device=device), torch.rand(width, width, device=device)
    product = lambda: (a @ w).sum().item() if device.type != "cpu" else a @ w  # noqa: E731
    return 2 * 2048 * width**2 / min(best([product, fast_products()(product)], 50))


def table(config: Preset, device: str, repeats: int) -> None:
    """Prints the cost of exploit, each quantity varied by itself around the preset's."""
    print(
        f"{'width':>6s} {'rays':>5s} {'samples':>8s} {'images':>7s} {'s':>7s} {'points':>7s} {'products':>9s}"
    )
    base = (config.shape.n_hidden, config.batch.n_rays, 36, config.batch.n_images)
    varied = [base]
    for i, values in enumerate(((64, 128, 512), (128, 1024, 2048), (12, 24, 64), (1, 2, 16))):
        varied += [(*base[:i], value, *base[i + 1 :]) for value in values if value != base[i]]
    for width, rays, samples, images in varied:
        torch.manual_seed(0)
        sized = replace(
            config,
            shape=replace(config.shape, n_hidden=width),
            material=replace(config.material, n_hidden=width),
            batch=replace(config.batch, n_rays=rays, n_images=images),
            sampling=replace(config.sampling, n_coarse=samples, n_fine=samples),
        )
        model = LiftedGAN(sized, Generator(GeneratorConfig((64,) * 5))).to(device)
        counted: list[tuple[int, int]] = []

        def counting(*given: object, counted: list[tuple[int, int]] = counted) -> Color:
            found = ours(*given)
            counted.append(found[1].shape[:2].numel())
            return found

        iterate = fast_products()(step(model, counting, explore=False))
        iterate()
        (seconds,) = best([iterate], repeats)
        of_shape = sum(layer.weight.numel() for layer in model.shape.body.layers)
        of_material = sum(layer.weight.numel() for layer in model.material.body.layers)
        flops = 2 * (counted[0] * (6 * of_shape + 3 * of_material) + rays * samples * of_shape)
        alone = flops / product_rate(width, model.device)
        print(
            f"{width:6d} {rays:5d} {samples:4d} + {samples:<3d} {images:5d} {seconds:7.3f} {counted[0]:7d} "
            f"{100 * alone / seconds:7.0f} %",
            flush=True,
        )


def share_of_limit(model: LiftedGAN, repeats: int) -> tuple[float, float]:
    """GFLOP/s of matrix products, and the share of it that F_s reaches with gradient, both ways."""
    device = model.device
    rate = product_rate(len(model.shape.head.weight[0]), device)
    coded = model.shape.requires_grad_(True).of(torch.zeros(8, model.config.n_code, device=device))
    x = torch.rand(8, 1000, coded.mlp.weights[0].shape[1], device=device)
    flops = 6 * 2 * 8000 * sum(weight.numel() for weight in coded.mlp.weights)

    @fast_products()
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
    parser.add_argument("--steps", nargs="+", default=["explore", "exploit"], choices=STEPS)
    parser.add_argument("--images", type=int, help="of align, instead of the preset's")
    parser.add_argument("--table", action="store_true", help="the cost of exploit by its sizes, instead")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--flush-denormals", action="store_true")
    options = parser.parse_args()
    torch.set_flush_denormal(options.flush_denormals)
    torch.manual_seed(0)
    config = get_preset(options.preset)
    if options.table:
        return table(config, options.device, options.repeats)
    if options.model:
        model = load(options.model)
    else:
        channels = tuple(min(64, 16384 // (4 << i)) for i in range(5))  # no field step runs the GAN
        model = LiftedGAN(config, Generator(GeneratorConfig(channels)))
    model = model.to(options.device)
    rate, reached = share_of_limit(model, options.repeats)
    print(f"matrix products {rate:.0f} GFLOP/s; F_s with gradient, both ways: {100 * reached:.0f} % of that")
    found = {}
    for name in options.steps:
        if name == "align":
            n_align = options.images or config.batch.n_align
            steps = align_steps(replace(config, batch=replace(config.batch, n_align=n_align)), options.device)
        else:
            steps = [step(model, render, explore=name == "explore") for render in (ours, reference)]
        l1 = [iterate() for iterate in steps]
        seconds = found[name] = best(steps, options.repeats)
        print(
            f"{name}: ours {seconds[0]:.3f} s (loss {l1[0]:.4f}), "
            f"reference {seconds[1]:.3f} s (loss {l1[1]:.4f}), ratio {seconds[1] / seconds[0]:.2f}",
            flush=True,
        )
    if config.joint is not None:
        s = config.joint
        n_explore = s.explore_first + (s.n_stages - 1) * s.explore
        counts = {"explore": n_explore, "align": s.n_stages * s.align, "exploit": s.n_stages * s.exploit}
        hours = [sum(counts[name] * found[name][i] for name in found) / 3600 for i in range(2)]
        more = hours[1] - hours[0]
        print(f"in all stages: ours {hours[0]:.2f} h, reference {hours[1]:.2f} h, {more:.2f} h more")


if __name__ == "__main__":
    main()
