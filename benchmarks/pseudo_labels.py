"""How well are views and lights read off images, before and beside the encoders that learn from them?

Samples of the demo GAN are registered on a mean shape (timed): the ellipsoid that pre-training starts
from, and that of a lifted model. Then both readers, and the model's E_v and E_l, read the benchmark's renders
of heads, whose views and lights are known:

    python benchmarks/pseudo_labels.py --model demo
"""

import argparse
import time

import torch

from lift3d.evaluation.benchmark import benchmark_renders
from lift3d.evaluation.metrics import light_error, view_error
from lift3d.masks.background import background_masks
from lift3d.model import LiftedGAN, load
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.render.maps import Renders
from lift3d.scene.cameras import VIEW_NAMES
from lift3d.scene.images import colors_to_images, to_bytes, to_float
from lift3d.seeds import UNLABELED_SEED
from lift3d.train.data import draw_samples


def report(name: str, views: torch.Tensor, lights: torch.Tensor, truth: Renders) -> None:
    """One line: correlation / slope / root mean square error of each number, mean angles."""
    cells = []
    for label, read, true in (
        *((n, views[:, i], truth.view[:, i]) for i, n in enumerate(VIEW_NAMES[:3])),
        *((n, lights[:, i], truth.light[:, i]) for i, n in ((2, "l_x"), (3, "l_y"))),
    ):
        cov = torch.cov(torch.stack((read, true)))
        r, slope = cov[0, 1] / (cov[0, 0] * cov[1, 1]).sqrt(), cov[0, 1] / cov[1, 1]
        error = (read - true).square().mean().sqrt()
        size = f"{error:.2f}" if label.startswith("l") else f"{error.rad2deg():.1f} deg"
        cells.append(f"{label} {r:.2f} / {slope:.2f} / {size}")
    view, light = view_error(views, truth.view).mean(), light_error(lights, truth.light).mean()
    print(f"{name}: {', '.join(cells)}; view {view:.1f} deg, light {light:.1f} deg", flush=True)


@torch.no_grad()
def main() -> None:
    """Prints correlation / slope / root mean square error per number and labeler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--samples", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = load(args.model)
    renders = benchmark_renders()
    images = to_bytes(colors_to_images(renders.image))
    masks = background_masks(images, model.background[0])
    unlabeled = draw_samples(model, args.samples, UNLABELED_SEED)
    start = LiftedGAN(model.config, model.generator)
    for name, shape in (("on the ellipsoid", start), ("on the lifted shape", model)):
        start_time = time.perf_counter()
        labeler = new_labeler(shape, unlabeled.images, unlabeled.masks)
        seconds = time.perf_counter() - start_time
        report(f"{name} ({seconds:.0f} s)", *labeler.label(images, masks), renders)
    x = to_float(images)
    report("E_v, E_l", model.view_encoder(x), model.light_encoder(x), renders)


if __name__ == "__main__":
    main()
