"""``LiftedGAN``: a 2D GAN with geometry, material, view and light (method.md, section 4). Composition only.

    z -> w -> I = G(w);   code = E_I(I), view = E_v(I), light = E_l(I);   fields of the code render under any
    view and light.

Every render has a second form, its projection G(w + dw(render)) through E_w: photographic, but not exactly
3D-consistent."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lift3d import defaults
from lift3d.checkpoint import copy_tensors, misfit, read_tensors, require_format, write_tensors
from lift3d.config.schema import Preset
from lift3d.errors import CheckpointError, ConfigError, CorruptFile
from lift3d.gan import own
from lift3d.gan.generator import Liftable, StyleGenerator
from lift3d.gan.kinds import new_generator
from lift3d.gan.latents import sample_z
from lift3d.networks.encoders import LightEncoder, ViewEncoder, image_encoder
from lift3d.networks.fields import MaterialField, SDFField, condition
from lift3d.render.maps import Maps
from lift3d.renderers import Code, MeshRenderer, Renderer
from lift3d.scene.batch import Batch
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import resize
from lift3d.scene.isosurface import cell_size, extract_mesh
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, clean, decimate
from lift3d.scene.surface import Surface, distances
from lift3d.scene.surface_mesh import lay_on, project_to_surface, with_material
from lift3d.scene.unseen import fading
from lift3d.seeds import seed_list

FORMAT = "lift3d.lifted/2"
RIM_MESH = 24  # grid cells a side of the mesh on which the material of unseen points is looked up
DEMO = Path(__file__).parent / "assets" / "demo.safetensors"


@dataclass(frozen=True, repr=False)
class Samples(Batch):
    """n lifted instances of the GAN; ``samples[i]`` is one."""

    seed: Int64[Tensor, "*n"]
    z: Float[Tensor, "*n z"]
    w: Float[Tensor, "*n w"]
    code: Float[Tensor, "*n c"]
    image: Float[Tensor, "*n 3 h h"]  # the 2D GAN's own, [-1, 1], working size
    view: Float[Tensor, "*n 6"]  # what E_v says of image
    light: Float[Tensor, "*n 5"]  # what E_l says of image

    @property
    def cameras(self) -> Cameras:
        """Where the images are seen from."""
        return Cameras.from_view(self.view)

    @property
    def lights(self) -> Lights:
        """The lights of the images."""
        return Lights.from_vector(self.light)


class LiftedGAN(nn.Module):
    """The generator (frozen), the two fields and the four encoders."""

    source = ""  # file that it was loaded from, or "demo"

    def __init__(self, config: Preset, generator: Liftable) -> None:
        super().__init__()
        self.config = config
        self.generator = generator.requires_grad_(False).eval()
        c, w = config, config.encoder_width
        self.shape = SDFField(
            c.shape.n_hidden, c.shape.n_layers, c.shape.n_frequencies, c.n_code, c.radii, c.shape.beta
        )
        self.material = MaterialField(
            c.material.n_hidden, c.material.n_layers, c.material.n_frequencies, c.shape.n_hidden, c.n_code
        )
        self.view_encoder = ViewEncoder(c.size, w, c.view_range, pivot=c.view_prior.pivot)
        self.light_encoder = LightEncoder(c.size, w, c.light_range, c.negative_range)
        self.image_encoder = image_encoder(c.size, c.n_code, w)
        self.gan_encoder = image_encoder(c.size, generator.h_dim, w)
        self.log_sharpness = nn.Parameter(torch.tensor(4.0))  # log s of neus.py
        self.register_buffer("open_bands", torch.tensor(1.0))  # fraction of encoding bands in use

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.config.name!r}, {self.config.size} pixels)"

    @property
    def sharpness(self) -> Tensor:
        """Inverse standard deviation s of the logistic density, world units."""
        return self.log_sharpness.exp().clamp(8.0, 2000.0)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.log_sharpness.device

    @property
    def background(self) -> tuple[float, float, float]:
        """Color behind the object in renders."""
        return (1.0 if self.config.background is None else self.config.background,) * 3

    # --- from the 2D GAN

    def latents(self, seeds: Sequence[int]) -> Float[Tensor, "n z"]:
        """z of each seed, independent of the other seeds."""
        return torch.cat([sample_z(self.generator, 1, int(seed)) for seed in seeds])

    @torch.no_grad()
    def sample(self, seeds: Sequence[int] | int, truncation: float | None = None) -> Samples:
        """Lifts the GAN's samples of these seeds, or of one; ``truncation`` psi, 0 to 1, defaults to the
        preset's.
        """
        seeds = seed_list(seeds)
        z = self.latents(seeds)
        return self.lift(self.to_w(z, truncation), z, seeds)

    @torch.no_grad()
    def to_w(self, z: Float[Tensor, "n z"], truncation: float | None = None) -> Float[Tensor, "n w"]:
        """w of latents z, pulled to the mean by ``truncation``, by default the preset's."""
        psi = self.config.truncation if truncation is None else truncation
        if not 0.0 <= psi <= 1.0:
            raise ConfigError(f"truncation is {psi}, expected 0..1")
        _require_length("z", z, self.generator.z_dim)
        return self.generator.w_avg.lerp(self.generator.to_w(z.to(self.generator.w_avg)), psi)

    @torch.no_grad()
    def lift(
        self,
        w: Float[Tensor, "n w"],
        z: Float[Tensor, "n z"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Samples:
        """Lifts the GAN's images of latents w. Where z is not known, it is 0 in the result; where no seed
        made them, the seed is -1.
        """
        _require_length("w", w, len(self.generator.w_avg))
        w = w.to(self.generator.w_avg)
        return self._samples(self.images(w), w, z, seeds)

    def _samples(
        self, images: Tensor, w: Tensor, z: Tensor | None = None, seeds: Sequence[int] | None = None
    ) -> Samples:
        """What the encoders say of images of latents."""
        z = w.new_zeros(len(w), self.generator.z_dim) if z is None else z.to(w)
        seed = torch.tensor([-1] * len(w) if seeds is None else list(map(int, seeds)), dtype=torch.int64)
        code, view, light = self.encode(images)
        return Samples(seed.to(w.device), z, w, code, images, view, light)

    def encode(
        self, images: Float[Tensor, "n 3 h h"]
    ) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n 6"], Float[Tensor, "n 5"]]:
        """Code, view and light of images in [-1, 1] of working size, by E_I, E_v and E_l."""
        return self.image_encoder(images), self.view_encoder(images), self.light_encoder(images)

    @torch.no_grad()
    def invert(self, images: Float[Tensor, "n 3 h w"]) -> Samples:
        """Images in [-1, 1] of the model's kind as samples, in one pass of the encoders: code, view and light
        as of the GAN's own images, and w by E_w, a step from the mean latent's image. Seeds are -1, z is 0.

        ``lift3d.read_photograph`` makes such images; ``refine`` goes on with one.
        """
        images = resize(images.to(self.device), self.config.size)
        mean = self.generator.w_avg.expand(len(images), -1)
        return self._samples(images, mean + self.offset(images, self.images(mean[:1]).expand_as(images)))

    def interpolate(self, w_a: Float[Tensor, " w"], w_b: Float[Tensor, " w"], n: int) -> Samples:
        """n >= 2 samples on the straight way in W from w_a to w_b, both included."""
        if n < 2:
            raise ConfigError(f"n is {n}, expected 2 or more: the ends are among the samples")
        return self.lift(torch.stack([w_a.lerp(w_b, i / (n - 1)) for i in range(n)]))

    def refine(
        self,
        image: Float[Tensor, "3 h w"],
        mask: Bool[Tensor, "h w"] | None = None,
        iterations: int | None = None,
        seed: int = 0,
    ) -> "LiftedGAN":
        """The object of one image in [-1, 1], of working size or larger, as ``Instances`` with fields of its
        own, fitted to all of its pixels by their shading (GAN2X); starts from ``invert``. ``mask``: where the
        object is; by default where the preset's source of masks finds it. ``iterations`` default to the
        preset's.
        """
        above = import_module("lift3d.train.instance")  # training stands above the model
        return above.refine_image(self, image, mask, iterations, seed)

    def synthesize(self, w: Float[Tensor, "n w"]) -> Float[Tensor, "n 3 H H"]:
        """G(w) with constant noise, clamped to [-1, 1], at the GAN's own size."""
        return self.generator.to_image(w).clamp(-1.0, 1.0)

    def images(self, w: Float[Tensor, "n w"]) -> Float[Tensor, "n 3 h h"]:
        """G(w) at the working size."""
        return resize(self.synthesize(w), self.config.size)

    def offset(
        self, images: Float[Tensor, "n 3 h h"], originals: Float[Tensor, "n 3 h h"] | None
    ) -> Float[Tensor, "n w"]:
        """dw(I) = M(h0 + E_w(I) - E_w(I_i)) - M(h0), the generator's ``offset`` of a step by E_w.

        ``originals`` are the samples' own images I_i. Their term is left out where they are None, and for
        categories without joint training (LSUN car)."""
        step = self.gan_encoder(images)
        if originals is not None and self.config.joint is not None:
            step = step - self.gan_encoder(originals)
        return self.generator.offset(step)

    @torch.no_grad()
    def project(self, w: Float[Tensor, " w"], images: Float[Tensor, "k 3 h h"]) -> Float[Tensor, "k 3 H H"]:
        """Projections of renders of one object onto the GAN, at its size; images in [-1, 1], any size."""
        small = resize(images, self.config.size)
        original = self.images(w[None]).expand(len(small), -1, -1, -1)
        return self.synthesize(w + self.offset(small, original))

    # --- the lifted object

    def show(self, *seeds: int) -> object:
        """The share page of these seeds (by default 0), which a notebook draws inline: ``lift3d.show``."""
        from lift3d import show

        return show(self, *seeds)

    def member(self, code: Float[Tensor, " c"]) -> "LiftedGAN":
        """Whose fields show the object of this code: here those that all codes share."""
        return self

    def surface(self, code: Float[Tensor, "b c"], mirror: Float[Tensor, " b"] | None = None) -> Surface:
        """Fields of each code, as callables."""
        return condition(self.shape, self.material, code, self.open_bands, mirror)

    @torch.no_grad()
    def shown_surface(self, code: Float[Tensor, " c"]) -> Surface:
        """The surface of one code as it is shown, not differentiable: where no image ever looks, its material
        fades to that of the neighborhood (unseen.py).
        """
        surface = self.surface(code[None])
        points = torch.from_numpy(self._geometry(surface, RIM_MESH).vertices).to(code.device)
        return fading(surface, points, self.config.view_prior)

    @torch.no_grad()
    def mesh(
        self,
        code: Float[Tensor, " c"],
        resolution: int = defaults.MESH_RESOLUTION,
        surface: Surface | None = None,
    ) -> Mesh:
        """The surface of one code: largest component, normals from the SDF, material at the vertices.
        ``surface`` is ``shown_surface`` of the code, where it is at hand.
        """
        surface = self.shown_surface(code) if surface is None else surface
        return lay_on(self._extracted(surface, resolution), surface, cell_size(resolution), self.device)

    @torch.no_grad()
    def geometry(self, code: Float[Tensor, " c"], resolution: int = defaults.MESH_RESOLUTION) -> Mesh:
        """``mesh`` without material; ``resolution`` is the number of grid cells a side."""
        return self._geometry(self.surface(code[None]), resolution)

    def _geometry(self, surface: Surface, resolution: int) -> Mesh:
        mesh = self._extracted(surface, resolution)
        return project_to_surface(mesh, surface, cell_size(resolution), self.device)

    def _extracted(self, surface: Surface, resolution: int) -> Mesh:
        return clean(extract_mesh(distances(surface), resolution, device=self.device))

    @torch.no_grad()
    def simplify(
        self, mesh: Mesh, code: Float[Tensor, " c"], n_faces: int, surface: Surface | None = None
    ) -> Mesh:
        """A mesh of one code with about ``n_faces`` faces at most, its vertices on the surface again, with
        the surface's normals and material. A mesh that is small enough is returned as it is. ``surface`` as
        in ``mesh``.
        """
        if n_faces >= len(mesh.faces):
            return mesh
        small = clean(decimate(Mesh(mesh.vertices, mesh.faces), n_faces))
        edge = float(np.ptp(mesh.vertices, axis=0).max() / np.sqrt(n_faces))  # of about one of its faces
        surface = self.shown_surface(code) if surface is None else surface
        return lay_on(small, surface, edge, self.device)

    @torch.no_grad()
    def evaluate_material(self, mesh: Mesh, code: Float[Tensor, " c"], shown: bool = True) -> Mesh:
        """The mesh with the material of one code at its vertices: that of ``shown_surface``, or else of
        ``surface``.
        """
        surface = self.shown_surface(code) if shown else self.surface(code[None])
        return with_material(mesh, surface, self.device)

    @torch.no_grad()
    def render(
        self, code: Code, cameras: Cameras, lights: Lights, size: int, renderer: Renderer | None = None
    ) -> Maps:
        """Maps of one instance from v cameras, and its images under lights [l], or [v, l] of each view's own.

        A single camera or light counts as a batch of one. ``renderer`` defaults to ``MeshRenderer()``. The
        result is on the device of the model. Raises ``ConfigError`` for arguments of other kinds or shapes.
        """
        self._check_render(code, cameras, lights, size, renderer)
        cameras = cameras if cameras.batch_shape else cameras[None]
        lights = lights if lights.batch_shape else lights[None]
        renderer = MeshRenderer() if renderer is None else renderer
        return renderer(self.member(code), code, cameras.to(self.device), lights.to(self.device), size)

    def _check_render(
        self, code: object, cameras: object, lights: object, size: object, renderer: object
    ) -> None:
        """Refuses what ``render`` would misread."""
        if not isinstance(cameras, Cameras) or not isinstance(lights, Lights):
            raise ConfigError(
                f"render takes Cameras and Lights, got {type(cameras).__name__} and {type(lights).__name__}: "
                "see Cameras.from_view and Lights.from_vector"
            )
        if tuple(code.shape) != (self.config.n_code,):
            raise ConfigError(
                f"code has the shape {tuple(code.shape)}, expected ({self.config.n_code},), of one: "
                "samples.code[0], say"
            )
        views, lamps = cameras.batch_shape, lights.batch_shape
        if len(views) > 1 or len(lamps) > 2 or lamps[:-1] not in ((), views):
            raise ConfigError(
                f"cameras {views} and lights {lamps} do not fit, expected cameras [v] and lights [l] or "
                "[v, l]"
            )
        if not isinstance(size, int) or size < 1:
            raise ConfigError(f"size is {size!r}, expected a number of pixels, 1 or more")
        if not (renderer is None or callable(renderer)):
            raise ConfigError(f"renderer is {renderer!r}, expected MeshRenderer() or VolumeRenderer(), say")

    # --- files

    def checksum(self) -> str:
        """SHA-256 of all tensors with their names, in single precision."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            found.update(f"{name} {tuple(tensor.shape)}".encode())
            found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return found.hexdigest()

    def save(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """One safetensors file with all networks and the configuration; atomic. Of a generator that is no
        StyleGAN it holds the name only (gan/own.py).
        """
        tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in self._stored().items()}
        about = {
            "format": FORMAT,
            "preset": self.config.to_json(),
            "generator": own.describe(self.generator),
            "license": self.config.license,
        }
        write_tensors(path, tensors, about)

    def _stored(self) -> dict[str, Tensor]:
        """The tensors of a file."""
        held = isinstance(self.generator, StyleGenerator)
        return {k: t for k, t in self.state_dict().items() if held or not k.startswith("generator.")}

    @staticmethod
    def load(path: str | Path, generator: Liftable | None = None) -> "LiftedGAN":
        """A model written by ``save``, on the CPU, in single precision; ``generator`` where the file does not
        hold it. Raises ``CheckpointError`` for other files.
        """
        about, tensors = read_tensors(path)
        require_format(about, FORMAT, path, "`lift3d pretrain --gan` makes a lifted model of a 2D GAN")
        preset, stated = about.get("preset"), about.get("generator")
        if not isinstance(preset, str) or not isinstance(stated, dict):
            raise CorruptFile(f"{path} is damaged: it does not say what its networks are")
        found = own.generator_of(stated, path, generator)

        def build() -> LiftedGAN:
            return LiftedGAN(
                Preset.from_json(preset), new_generator(stated, path) if found is None else found
            )

        try:
            with torch.device("meta"):  # sizes are compared before memory is taken for them
                problem = misfit(build()._stored(), {name: tuple(t.shape) for name, t in tensors.items()})
            if problem:
                raise CheckpointError(f"{path} {problem}")
            model = build()
        except ConfigError as error:
            raise CheckpointError(f"{path} does not describe a model: {error}") from error
        copy_tensors(model._stored(), tensors, "", path)
        return model.requires_grad_(False).eval()


def _require_length(name: str, latents: Tensor, length: int) -> None:
    if latents.shape[-1] != length:
        raise ConfigError(f"latents {name} have {latents.shape[-1]} numbers, expected {length}, the GAN's")


def load(name_or_path: str | Path = "demo", generator: Liftable | None = None) -> LiftedGAN:
    """The bundled model ("demo") or a file written by ``LiftedGAN.save`` or ``lift3d pretrain``."""
    path = DEMO if str(name_or_path) == "demo" else Path(name_or_path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        known = "" if str(name_or_path) == "demo" else '; "demo" is the bundled model'
        raise CheckpointError(f"there is no model file {path}{known}")
    model = LiftedGAN.load(path, generator)
    model.source = "demo" if path == DEMO else str(path.resolve())
    return model
