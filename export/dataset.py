"""Make a dataset: plan -> render -> write -> resume.

A plan (plan/dataset.py) is everything that decides what stands in the file, and each of its samples depends
on the plan and its own number alone.

Storage decides the colors: albedo is rounded to 8 bits and the shading factors to half precision first, and
the colors are computed from the rounded values. What is stored therefore fulfills

    colors / 255 = clip(albedo / 255 * diffuse_shading + specular_shading, 0, 1)      inside the mask

up to half a code value, the rounding of the colors themselves; they differ from the renderer's by one more
at most.
"""

import datetime
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lift3d import __version__
from lift3d.errors import ConfigError, Lift3DError
from lift3d.export.hdf5.merge import require_unmerged
from lift3d.export.hdf5.reader import describe
from lift3d.export.hdf5.sample_file import Form
from lift3d.export.hdf5.schema import MAPS, MESH_ARRAYS, SPECS, DatasetSpec, Dimensions, stored
from lift3d.export.hdf5.writer import DatasetWriter, create
from lift3d.export.plan.dataset import DatasetPlan
from lift3d.export.plan.latents import LatentModel
from lift3d.interrupts import uninterrupted
from lift3d.model import Samples
from lift3d.observer import Observer, SilentObserver
from lift3d.render.maps import Maps
from lift3d.renderers import RENDERERS, Renderer
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import colors_to_images, images_to_colors, to_picture, to_uint8
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh
from lift3d.scene.surface import Surface

PIXELS_AT_ONCE = 1 << 24  # of all views and lights in one call of the renderer
GAN_IMAGES_AT_ONCE = 8
MOST_AT_ONCE = 4  # samples; more would wait for the interpreter, which one thread has at a time


@runtime_checkable
class Model(LatentModel, Protocol):
    """What a dataset needs of ``LiftedGAN``."""

    config: object  # to_json(), view_prior, light_prior, truncation, license
    background: tuple[float, float, float]

    def shown_surface(self, code: Tensor) -> Surface: ...

    def mesh(self, code: Tensor, resolution: int, surface: Surface) -> Mesh: ...

    def simplify(self, mesh: Mesh, code: Tensor, n_faces: int, surface: Surface) -> Mesh: ...

    def render(
        self, code: Tensor, cameras: Cameras, lights: Lights, size: int, renderer: Renderer
    ) -> Maps: ...

    def project(self, w: Tensor, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class PhaseSeconds:
    """Where the time of a run went; what runs at a time is summed."""

    render: float  # sampling, meshes, images
    project: float  # through the GAN
    wait: float  # of the run, for samples to be written
    deflate: float
    commit: float  # writing and syncing


@dataclass(frozen=True)
class WriteReport:
    """What a run wrote."""

    path: Path
    samples: int  # written by this run
    images: int  # color images among them
    done: int  # samples in the file
    planned: int
    seconds: float
    phases: PhaseSeconds
    interrupted: bool  # by Ctrl-C

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds if self.seconds else 0.0


def write_dataset(
    model: Model,
    plan: DatasetPlan,
    path: Path | str,
    observer: Observer | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> WriteReport:
    """Write the samples of ``plan`` that ``path`` lacks.

    Whatever stops the run, ``resume`` continues it; hdf5/writer.py says what is lost then, which is little or
    nothing. Ctrl-C is no error: the samples on their way are finished and the report says ``interrupted``.
    """
    path, observer, start = Path(path), observer or SilentObserver(), time.perf_counter()
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume contradict each other; give one of them")
    plan = plan.resolved(model.config.truncation)
    writer = _writer(model, plan, path, overwrite, resume)
    before = int(writer.done.sum())
    if before:
        observer.message(f"{path}: {before} of {len(plan.numbers)} samples are there already")
    run, interrupted = _Run(model, plan, writer), False
    observer.start("samples", len(plan.numbers) - before)
    try:
        with one_thread_each(run.at_once):
            run.write_missing(observer)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        with uninterrupted() as again:
            run.close()
        observer.finish()
    done = int(writer.done.sum())
    return WriteReport(
        path=path,
        samples=done - before,
        images=(done - before) * plan.views.n * plan.lights.n,
        done=done,
        planned=len(plan.numbers),
        seconds=time.perf_counter() - start,
        phases=PhaseSeconds(run.render, run.project, run.wait, **writer.seconds),
        interrupted=interrupted or bool(again),
    )


def samples_at_once(model: Model) -> int:
    """How many samples are made at a time: one a thread that PyTorch has, as many operators are too small to
    be shared. One on a GPU.
    """
    device = getattr(model, "device", torch.device("cpu"))
    return min(MOST_AT_ONCE, torch.get_num_threads()) if device.type == "cpu" else 1


@contextmanager
def one_thread_each(n: int) -> Iterator[None]:
    """PyTorch's threads, shared by n callers, in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """Makes the missing samples, some at a time; a thread writes one while the next ones are made."""

    def __init__(self, model: Model, plan: DatasetPlan, writer: DatasetWriter) -> None:
        self.model, self.plan, self.writer = model, plan, writer
        self.at_once, self.stopped = samples_at_once(model), False
        self.render = self.project = self.wait = 0.0  # seconds
        self._makers = ThreadPoolExecutor(self.at_once, thread_name_prefix="sample")
        self._background = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._writing: Future | None = None

    def write_missing(self, observer: Observer) -> None:
        """In order of their numbers."""
        for row, (arrays, render, project) in self._made(np.flatnonzero(~self.writer.done).tolist()):
            self.render, self.project = self.render + render, self.project + project
            self._wait(observer)
            self._writing = self._background.submit(self.writer.write, row, arrays)
        self._wait(observer)

    def close(self) -> None:
        """Writes what has been made; samples on their way are given up."""
        self.stopped = True
        self._makers.shutdown(wait=False, cancel_futures=True)
        self._background.shutdown()
        self.writer.close()

    def _made(self, rows: Sequence[int]) -> Iterator[tuple[int, tuple[dict[str, NDArray], float, float]]]:
        """Rows, and what ``_sample`` gives of them: made by the caller, or by several threads."""
        if self.at_once == 1:
            yield from ((row, self._sample(self.plan.numbers[row])) for row in rows)
            return
        making: deque[tuple[int, Future]] = deque()
        for row in rows:
            making.append((row, self._makers.submit(self._sample, self.plan.numbers[row])))
            if len(making) > self.at_once:
                row, made = making.popleft()
                yield row, made.result()
        yield from ((row, made.result()) for row, made in making)

    def _wait(self, observer: Observer) -> None:
        """For the sample that is being written."""
        start, writing = time.perf_counter(), self._writing
        if writing is not None:
            writing.result()
            self._writing = None
            self.wait += time.perf_counter() - start
            observer.advance()

    @torch.no_grad()
    def _sample(self, i: int) -> tuple[dict[str, NDArray], float, float]:
        """Arrays of sample i, and the seconds that it took without and in the GAN."""
        start, plan, model, project = time.perf_counter(), self.plan, self.model, 0.0
        samples = plan.sample(model, i)
        code = samples.code[0]
        cameras, lamps = plan.draw(i, model.config.view_prior, model.config.light_prior)
        surface = model.shown_surface(code)
        mesh = model.mesh(code, plan.mesh_resolution, surface)
        renderer = RENDERERS[plan.renderer](mesh=mesh)
        arrays = _facts(samples, cameras, lamps, plan.size)
        if plan.meshes != "none":
            small = mesh if plan.meshes == "full" else model.simplify(mesh, code, plan.meshes, surface)
            arrays |= _mesh_arrays(small)
        if plan.split:
            arrays["split"] = np.uint8(plan.part(i))
        images = []
        n_views = max(1, PIXELS_AT_ONCE // (self.at_once * plan.lights.n * plan.size**2))
        for first in range(0, plan.views.n, n_views):
            if self.stopped:
                raise CancelledError
            output = model.render(code, cameras[first : first + n_views], lamps, plan.size, renderer)
            before = time.perf_counter()
            gan = self._through_gan(samples.w[0], output.colors) if plan.gan else None
            project += time.perf_counter() - before
            images.append(_encode(output, gan, model.background, plan.maps))
        arrays |= {name: np.concatenate([image[name] for image in images]) for name in images[0]}
        return arrays, time.perf_counter() - start - project, project

    def _through_gan(self, w: Tensor, colors: Float[Tensor, "v l h w 3"]) -> Float[Tensor, "v l g g 3"]:
        """Renders projected onto the 2D GAN, in [0, 1]."""
        images = colors_to_images(colors.flatten(0, 1))
        projected = torch.cat([self.model.project(w, some) for some in images.split(GAN_IMAGES_AT_ONCE)])
        return images_to_colors(projected).unflatten(0, colors.shape[:2])


def _facts(samples: Samples, cameras: Cameras, lights: Lights, size: int) -> dict[str, NDArray]:
    """Datasets without images: cameras, lights, latents, the GAN's own picture."""
    tensors = {
        "cam2world": cameras.cam2world(),
        "cam_K": cameras.intrinsics(size).expand(len(cameras), 3, 3),
        "light_dir": lights.direction,
        "light_ambient": lights.ambient,
        "light_diffuse": lights.diffuse,
        "light_negative": lights.negative,
        "latent_z": samples.z[0],
        "latent_w": samples.w[0],
        "code": samples.code[0],
        "gan_view": samples.view[0],
        "gan_light": samples.light[0],
    }
    arrays = {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    image = to_picture(images_to_colors(samples.image[0]))
    return arrays | {"gan_image": image, "seed": samples.seed[0].cpu().numpy()}


def _mesh_arrays(mesh: Mesh) -> dict[str, NDArray]:
    arrays = {name: getattr(mesh, name.removeprefix("meshes/")) for name in MESH_ARRAYS}
    if missing := [name for name, array in arrays.items() if array is None]:
        raise Lift3DError(f"the model's mesh lacks {', '.join(missing)}; choose a plan without meshes")
    return arrays


def _encode(
    output: Maps, gan: Tensor | None, background: tuple[float, ...], maps: tuple[str, ...]
) -> dict[str, NDArray]:
    """What the file stores of some views (module docstring), computed at the k pixels of the mask."""
    mask = output.mask.cpu().numpy()

    def seen(name: str) -> NDArray:
        """A map as it is stored: [k], [k, 3], or of every light [k, l]."""
        array = getattr(output, name).cpu().numpy()
        array = (np.moveaxis(array, 1, 3) if name.endswith("_shading") else array)[mask]
        if SPECS[name].dtype == "f2":
            return torch.from_numpy(array).half().numpy()  # a tenth of numpy's time
        return to_uint8(array) if name == "albedo" else array

    def image(pixels: NDArray, of_lights: bool, outside: NDArray | int = 0) -> NDArray:
        """[v, h, w, ...] of [k, ...], or [v, l, h, w, ...] of [k, l, ...]."""
        lights = pixels.shape[1:2] if of_lights else ()
        whole = np.empty((len(mask), *lights, *mask.shape[1:], *pixels.shape[1 + of_lights :]), pixels.dtype)
        whole[:] = outside
        (np.moveaxis(whole, 1, 3) if of_lights else whole)[mask] = pixels
        return whole

    found = {name: seen(name) for name in MAPS if name != "mask"}
    arrays = {name: image(found[name], name.endswith("_shading")) for name in found if name in maps}
    shading = (found["diffuse_shading"], found["specular_shading"])
    diffuse, specular = (torch.from_numpy(array).float().numpy()[..., None] for array in shading)
    albedo = found["albedo"][:, None].astype(np.float32) / 255
    arrays["colors"] = image(to_uint8(albedo * diffuse + specular), True, to_uint8(np.array(background)))
    if "mask" in maps:
        arrays["mask"] = mask.astype(np.uint8)
    if gan is not None:
        arrays["colors_gan"] = to_uint8(gan.cpu().numpy())
    return arrays


def _writer(model: Model, plan: DatasetPlan, path: Path, overwrite: bool, resume: bool) -> DatasetWriter:
    """The file at ``path``, new or to be continued, locked before it is looked at."""
    if not path.exists() or overwrite:
        return DatasetWriter(path, locked=_create(model, plan, path, overwrite))
    if not resume:
        raise ConfigError(f"{path} exists; --resume continues it, --overwrite replaces it")
    describe(path)  # refuses what is no dataset
    require_unmerged(path)
    writer = DatasetWriter(path)
    try:
        _check_same(model, plan, writer)
    except BaseException:
        writer.close(join=False)
        raise
    return writer


def _create(model: Model, plan: DatasetPlan, path: Path, overwrite: bool) -> int:
    """An empty file for the plan; a descriptor that holds its lock."""
    attributes = {
        "generator": f"lift3d {__version__}",
        "config": json.dumps(_config(model, plan)),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "license": model.config.license,
    }
    form = Form(specs_of(plan), dimensions_of(model, plan), attributes, model.background)
    return create(path, form, len(plan.numbers), overwrite)


def specs_of(plan: DatasetPlan) -> tuple[DatasetSpec, ...]:
    """The datasets of a plan's file."""
    return stored(plan.maps, plan.gan, plan.meshes != "none", bool(plan.split))


def dimensions_of(model: Model, plan: DatasetPlan) -> Dimensions:
    """Their lengths, but of meshes."""
    with torch.no_grad():
        first = plan.sample(model, plan.numbers[0])
    return Dimensions(
        samples=len(plan.numbers),
        views=plan.views.n,
        lights=plan.lights.n,
        size=plan.size,
        gan_size=first.image.shape[-1],
        z=first.z.shape[-1],
        w=first.w.shape[-1],
        code=first.code.shape[-1],
    )


def _config(model: Model, plan: DatasetPlan) -> dict:
    """The root attribute ``config``."""
    return {"plan": plan.to_json(), "model": json.loads(model.config.to_json())}


def _check_same(model: Model, plan: DatasetPlan, writer: DatasetWriter) -> None:
    """Refuse to continue a file of another plan or another model."""
    path, there = writer.path, writer.first("code")
    old, new = describe(path).config, json.loads(json.dumps(_config(model, plan)))
    for name, now in new["plan"].items():
        if (before := old["plan"].get(name)) != now:
            raise ConfigError(
                f"--resume: {name} is {before!r} in {path}, {now!r} now; give the same, or --overwrite"
            )
    same = old["model"] == new["model"]
    if same and there:
        with torch.no_grad():
            again = plan.sample(model, plan.numbers[there[0]]).code[0].cpu().numpy()
        same = np.allclose(again, there[1], rtol=1e-5, atol=1e-3)
    if not same:
        raise ConfigError(
            f"--resume: {path} was written with another model; give the same model, or --overwrite"
        )
