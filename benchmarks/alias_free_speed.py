"""Time of one image of StyleGAN3 (T and R) against StyleGAN2 of the same size, weights random.

Published widths at 256 pixels and above (base 32768; R has twice as many channels), at 64 pixels those of
``lift3d gan train``. "with gradients": the image and the gradient of its sum with respect to w, as E_w is
trained:

    python benchmarks/alias_free_speed.py --resolution 256
"""

import argparse
import time
from collections.abc import Callable

import torch

from lift3d.gan.alias_free import AliasFreeConfig, alias_free_channels
from lift3d.gan.config import GeneratorConfig, channels_for
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.kinds import build_generator


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest of several runs."""
    times = []
    for _ in range(repeats + 1):  # the first one warms up
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def generators(resolution: int, base: int, maximum: int) -> dict[str, StyleGenerator]:
    """The three, by name."""
    t = AliasFreeConfig(alias_free_channels(resolution, base, maximum), resolution)
    wide = alias_free_channels(resolution, 2 * base, 2 * maximum)
    r = AliasFreeConfig(wide, resolution, conv_size=1, radial=True)
    stylegan2 = GeneratorConfig(channels_for(resolution, base, maximum))
    named = {"StyleGAN2": stylegan2, "StyleGAN3-T": t, "StyleGAN3-R": r}
    return {name: build_generator(config).requires_grad_(False).eval() for name, config in named.items()}


def main() -> None:
    """Prints a line per generator."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    base, maximum = (1024, 128) if args.resolution <= 64 else (32768, 512)
    print(f"{args.resolution} pixels, {device}, {torch.get_num_threads()} threads, batch {args.batch}")
    reference = None
    for name, generator in generators(args.resolution, base, maximum).items():
        generator.to(device)
        w = torch.randn(args.batch, generator.w_dim, device=device)

        def with_gradients(generator: StyleGenerator = generator, w: torch.Tensor = w) -> None:
            generator.to_image(w.requires_grad_(True)).sum().backward()

        with torch.no_grad():
            plain = seconds(lambda g=generator, w=w: g.to_image(w), device, args.repeats)
        times = (plain / args.batch, seconds(with_gradients, device, args.repeats) / args.batch)
        reference = reference or times
        print(
            f"{name:<12} {times[0]:.4f} s an image ({times[0] / reference[0]:.1f} x), "
            f"{times[1]:.4f} s with gradients ({times[1] / reference[1]:.1f} x)",
            flush=True,
        )


if __name__ == "__main__":
    main()
