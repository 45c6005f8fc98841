"""``LiftedGAN``: a 2D GAN with geometry, material, view and light (method.md, section 4). Composition only.

    z -> w -> I = G(w);   code = E_I(I), view = E_v(I), light = E_l(I);   fields of the code render under any
    view and light.

Every render has a second form, its projection G(w + dw(render)) through E_w: photographic, but not exactly
3D-consistent."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.config.schema import Preset
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.files.load import config_from, fill, read_tensors, write_tensors
from lift3d.gan.latents import sample_z
from lift3d.gan.stylegan2 import Generator, GeneratorConfig
from lift3d.networks.encoders import LightEncoder, ViewEncoder, image_encoder
from lift3d.networks.fields import MaterialField, SDFField, condition
from lift3d.render.maps import RenderOutput
from lift3d.render.mesh import render_mesh
from lift3d.render.volume import SamplingConfig, render_maps
from lift3d.scene.cameras import Cameras
from lift3d.scene.images import resize
from lift3d.scene.isosurface import cell_size, extract_mesh, project_to_surface
from lift3d.scene.lights import Lights
from lift3d.scene.mesh import Mesh, clean
from lift3d.scene.surface import Surface, sdf_and_gradient, smooth_normal

FORMAT = "lift3d.lifted/2"
DEMO = Path(__file__).parent / "assets" / "demo.safetensors"
N_TAIL = 3  # fully connected layers of the mapping network behind E_w (GAN2Shape)


@dataclass(frozen=True)
class Samples:
    """n lifted objects of the GAN."""

    seeds: tuple[int, ...]
    z: Float[Tensor, "n z"]
    w: Float[Tensor, "n w"]
    code: Float[Tensor, "n c"]
    image: Float[Tensor, "n 3 h h"]  # the 2D GAN's own, [-1, 1], working size
    view: Float[Tensor, "n 6"]  # what E_v says of image
    light: Float[Tensor, "n 5"]  # what E_l says of image


class LiftedGAN(nn.Module):
    """The generator (frozen), the two fields and the four encoders."""

    def __init__(self, config: Preset, generator: Generator) -> None:
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
        self.view_encoder = ViewEncoder(c.size, w, c.view_range)
        self.light_encoder = LightEncoder(c.size, w, c.light_range, c.negative_range)
        self.image_encoder = image_encoder(c.size, c.n_code, w)
        self.gan_encoder = image_encoder(c.size, generator.config.w_dim, w)
        self.log_sharpness = nn.Parameter(torch.tensor(4.0))  # log s of neus.py
        self.register_buffer("open_bands", torch.tensor(1.0))  # fraction of encoding bands in use

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
    def sample(self, seeds: Sequence[int], truncation: float | None = None) -> Samples:
        """Lifts the GAN's samples of these seeds; ``truncation`` psi defaults to the preset's."""
        psi = self.config.truncation if truncation is None else truncation
        if not 0.0 <= psi <= 1.0:
            raise ConfigError(f"truncation is {psi}, expected 0..1")
        z = self.latents(seeds)
        w = self.generator.mapping.w_avg.lerp(self.generator.mapping(z), psi)
        image = self.images(w)
        return Samples(
            tuple(int(s) for s in seeds),
            z,
            w,
            self.image_encoder(image),
            image,
            self.view_encoder(image),
            self.light_encoder(image),
        )

    def synthesize(self, w: Float[Tensor, "n w"]) -> Float[Tensor, "n 3 H H"]:
        """G(w) with constant noise, clamped to [-1, 1], at the GAN's own size."""
        ws = w[:, None].expand(-1, self.generator.config.n_ws, -1)
        return self.generator.synthesis(ws, noise_mode="const").clamp(-1.0, 1.0)

    def images(self, w: Float[Tensor, "n w"]) -> Float[Tensor, "n 3 h h"]:
        """G(w) at the working size."""
        return resize(self.synthesize(w), self.config.size)

    def offset(
        self, images: Float[Tensor, "n 3 h h"], originals: Float[Tensor, "n 3 h h"] | None
    ) -> Float[Tensor, "n w"]:
        """dw(I) = M(h0 + E_w(I) - E_w(I_i)) - M(h0), M the last layers of the mapping network, h0 its state
        before M for z = 0.

        ``originals`` are the samples' own images I_i; None leaves their term out (per-instance training of
        cars)."""
        mapping = self.generator.mapping
        k = min(N_TAIL, self.generator.config.n_mapping_layers)
        h0 = mapping.hidden(images.new_zeros(1, self.generator.config.z_dim), k)
        step = self.gan_encoder(images)
        if originals is not None:
            step = step - self.gan_encoder(originals)
        return mapping.tail(h0 + step, k) - mapping.tail(h0, k)

    @torch.no_grad()
    def project(self, w: Float[Tensor, " w"], images: Float[Tensor, "k 3 h h"]) -> Float[Tensor, "k 3 H H"]:
        """Projections of renders of one object onto the GAN, at its size; images in [-1, 1], any size."""
        small = resize(images, self.config.size)
        original = self.images(w[None]).expand(len(small), -1, -1, -1)
        return self.synthesize(w + self.offset(small, original))

    # --- the lifted object

    def surface(self, code: Float[Tensor, "b c"], mirror: Float[Tensor, " b"] | None = None) -> Surface:
        """Fields of each code, as callables."""
        return condition(self.shape, self.material, code, float(self.open_bands), mirror)

    def mesh(self, code: Float[Tensor, " c"], resolution: int = 128) -> Mesh:
        """The surface of one code: largest component, normals from the SDF, material at the vertices."""
        return self.evaluate_material(self.geometry(code, resolution), code)

    @torch.no_grad()
    def geometry(self, code: Float[Tensor, " c"], resolution: int = 128) -> Mesh:
        """``mesh`` without material; ``resolution`` is the number of grid cells a side."""
        surface = self.surface(code[None])
        sdf = lambda x: surface.sdf(x[None])[0][0, :, 0]  # noqa: E731
        mesh = clean(extract_mesh(sdf, resolution, device=code.device))
        return project_to_surface(mesh, sdf, cell_size(resolution), device=code.device)

    @torch.no_grad()
    def evaluate_material(self, mesh: Mesh, code: Float[Tensor, " c"]) -> Mesh:
        """The mesh with the material of one code at its vertices."""
        surface = self.surface(code[None])
        parts = []
        for points in torch.from_numpy(mesh.vertices).to(code.device).split(65536):
            _, feature, gradient = sdf_and_gradient(surface, points[None], create_graph=False)
            parts.append(surface.material(points[None], smooth_normal(gradient), feature))
        join = lambda name: torch.cat([getattr(p, name)[0] for p in parts]).cpu().numpy()  # noqa: E731
        return replace(
            mesh,
            albedo=np.ascontiguousarray(join("albedo")),
            specular=np.ascontiguousarray(join("specular")[:, 0]),
            shininess=np.ascontiguousarray(join("shininess")[:, 0]),
        )

    @torch.no_grad()
    def render(
        self,
        code: Float[Tensor, " c"],
        views: Float[Tensor, "v 6"],
        lights: Float[Tensor, "l 5"],
        size: int,
        renderer: str = "mesh",
        mesh: Mesh | None = None,
    ) -> RenderOutput:
        """Maps of one object from v views and its images under l lights; "mesh" rasterizes (fast), "neus"
        marches.
        """
        views, lights = views.to(self.device), lights.to(self.device)
        cameras, lamps = Cameras.from_view(views), Lights.from_vector(lights)
        if renderer == "neus":
            return render_maps(
                self.surface(code[None]), cameras, lamps, size, self.sharpness.item(),
                SamplingConfig(),
                self.background,
            )  # fmt: skip
        if renderer != "mesh":
            raise ConfigError(f"unknown renderer {renderer!r}, known are mesh, neus")
        return render_mesh(self.mesh(code) if mesh is None else mesh, cameras, lamps, size, self.background)

    # --- files

    def save(self, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """One safetensors file with all networks and the configuration; atomic."""
        tensors = {k: t.to(dtype) if t.is_floating_point() else t for k, t in self.state_dict().items()}
        about = {
            "format": FORMAT,
            "preset": self.config.to_json(),
            "generator": asdict(self.generator.config),
            "license": self.config.license,
        }
        write_tensors(path, tensors, about)

    @staticmethod
    def load(path: str | Path) -> "LiftedGAN":
        """A model written by ``save``, on the CPU, in single precision. Raises ``CheckpointError`` for other
        files.
        """
        about, tensors = read_tensors(path)
        if about.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} is no lifted model (format {about.get('format')!r}, expected {FORMAT!r}); a 2D GAN "
                "is lifted by `lift3d pretrain --gan`"
            )
        generator = Generator(config_from(GeneratorConfig, about["generator"], path))
        model = LiftedGAN(Preset.from_json(about["preset"]), generator)
        fill(model, tensors, "", path)
        return model.requires_grad_(False).eval()


def load(name_or_path: str | Path = "demo") -> LiftedGAN:
    """The bundled model ("demo") or a file written by ``LiftedGAN.save`` or ``lift3d pretrain``."""
    path = DEMO if str(name_or_path) == "demo" else Path(name_or_path)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        known = "" if str(name_or_path) == "demo" else '; "demo" is the bundled model'
        raise CheckpointError(f"there is no model file {path}{known}")
    return LiftedGAN.load(path)
