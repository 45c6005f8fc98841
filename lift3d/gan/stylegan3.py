"""StyleGAN3, the alias-free generator, in plain PyTorch: the published arithmetic, the NVLabs names of
modules and tensors. Its discriminator is StyleGAN2's.

Source: Karras et al., "Alias-Free Generative Adversarial Networks", 2021, section 3 and appendices C, E and
F. Symbols as in stylegan2.py; ws has one w for the input and one per layer. Positions are in image sides from
the image's center, x to the right, y down. ``alias_free.py`` has the numbers of every layer, ``filters.py``
the signal processing. Filters follow from the settings and are not stored.
"""

from math import cos, pi, radians, sin, sqrt

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.errors import ConfigError
from lift3d.gan.alias_free import AliasFreeConfig, LayerDesign, bands, layer_designs
from lift3d.gan.filters import filtered_leaky_relu, lowpass
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.mapping import FullyConnected
from lift3d.gan.ops import SQRT2, modulated_conv2d, normal

Motion = Float[Tensor, "3 3"] | Float[Tensor, "n 3 3"]


def motion(translate: tuple[float, float] = (0.0, 0.0), degrees: float = 0.0) -> Float[Tensor, "3 3"]:
    """Where the input is read so that the image turns counter-clockwise about its center, then moves.

    ``translate`` is in image sides, x to the right, y down. The result is the inverse motion: it maps a
    position in the new image to the one in the old image that is seen there.
    """
    c, s = cos(radians(degrees)), sin(radians(degrees))
    forward = torch.tensor(
        [[c, s, translate[0]], [-s, c, translate[1]], [0.0, 0.0, 1.0]], dtype=torch.float64
    )
    return torch.linalg.inv(forward).float()


class SynthesisInput(nn.Module):
    """w -> Fourier features of a plane that w turns and shifts (section 3.2 and appendix F).

    ``transform`` is a motion that holds for all images; ``freqs`` (cycles per image side) and ``phases``
    (turns) are random and stay.
    """

    def __init__(self, config: AliasFreeConfig) -> None:
        super().__init__()
        band = bands(config)[0]
        self.size, self.rate, self.cutoff = band.size, band.rate, band.cutoff
        directions = normal(band.channels, 2)
        radii = directions.norm(dim=1, keepdim=True)
        # Uniform in the disc of radius f_c: 1 - exp(-r^2 / 2) is uniform for a normal vector of length r.
        freqs = directions / radii * (1 - (-radii.square() / 2).exp()).sqrt() * band.cutoff
        self.weight = nn.Parameter(normal(band.channels, band.channels))
        self.affine = FullyConnected(config.w_dim, 4)
        self.affine.weight.data.zero_()
        self.affine.bias.data = torch.tensor([1.0, 0.0, 0.0, 0.0])
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", freqs)
        self.register_buffer("phases", torch.rand(band.channels) - 0.5)

    def forward(
        self, w: Float[Tensor, "n w_dim"], transform: Motion | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Sines on the input's canvas, mixed; ``transform`` replaces the stored one."""
        motions = self.motions(w) @ (self.transform if transform is None else transform.to(w))
        phases = self.phases + (motions[:, :2, 2] @ self.freqs.T)
        freqs = self.freqs @ motions[:, :2, :2]
        # Frequencies that a motion has brought out of the band fade out before half the sampling rate.
        excess = (freqs.norm(dim=2) - self.cutoff) / (self.rate / 2 - self.cutoff)
        x = (torch.arange(self.size, dtype=w.dtype, device=w.device) + 0.5 - self.size / 2) / self.rate
        along_x = (x[:, None] * freqs[:, None, :, 0]).unsqueeze(1)  # n 1 w c
        along_y = (x[:, None] * freqs[:, None, :, 1]).unsqueeze(2)  # n h 1 c
        waves = torch.sin(2 * pi * (along_x + along_y + phases[:, None, None]))
        waves = waves * (1 - excess).clamp(0, 1)[:, None, None]
        return (waves @ (self.weight / sqrt(len(self.weight))).T).permute(0, 3, 1, 2)

    def motions(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n 3 3"]:
        """The inverse motion that w asks for: (r_c, r_s, t_x, t_y), the first two a direction."""
        t = self.affine(w)
        c, s, x, y = (t / t[:, :2].norm(dim=1, keepdim=True)).unbind(dim=1)
        zero, one = torch.zeros_like(c), torch.ones_like(c)
        rows = (c, -s, s * y - c * x, s, c, -s * x - c * y, zero, zero, one)
        return torch.stack(rows, dim=1).unflatten(1, (3, 3))


class SynthesisLayer(nn.Module):
    """Modulated convolution of an input scaled to unit magnitude, + bias, filtered leaky ReLU (the image
    layer: linear, not demodulated).
    """

    def __init__(self, config: AliasFreeConfig, design: LayerDesign) -> None:
        super().__init__()
        n_in, n_out, k = design.input.channels, design.output.channels, design.conv_size
        self.design, self.clamp = design, config.conv_clamp
        self.affine = FullyConnected(config.w_dim, n_in, bias=1.0)
        self.weight = nn.Parameter(normal(n_out, n_in, k, k))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.register_buffer("magnitude_ema", torch.ones([]))  # running mean of the squared input
        up, down = design_filters(design)
        self.register_buffer("up_filter", up, persistent=False)
        self.register_buffer("down_filter", down, persistent=False)

    def forward(
        self, x: Float[Tensor, "n i h w"], w: Float[Tensor, "n w_dim"], decay: float | None = None
    ) -> Float[Tensor, "n o h2 w2"]:
        """``decay``: of the running magnitude, in training; None leaves it as it is."""
        if decay is not None:
            self.magnitude_ema.lerp_(x.detach().square().mean(), 1 - decay)
        d, style = self.design, self.affine(w)
        gain = self.magnitude_ema.rsqrt()
        if d.is_image:
            x = modulated_conv2d(x, self.weight, style / sqrt(x.shape[1]), demodulate=False, gain=gain)
            x = x + self.bias[:, None, None]
        else:
            x = modulated_conv2d(x, self.weight, style, gain=gain * SQRT2, padding=d.conv_size - 1)
            x = x + (self.bias * SQRT2)[:, None, None]
        slope = 1.0 if d.is_image else 0.2
        return filtered_leaky_relu(
            x, self.up_filter, self.down_filter, d.up, d.down, d.padding, self.clamp, slope
        )


def design_filters(design: LayerDesign) -> tuple[Tensor | None, Tensor | None]:
    """The low-pass filters before and after a layer's nonlinearity."""
    before, after = design.input, design.output
    return (
        lowpass(design.up_taps, before.cutoff, 2 * before.half_width, design.rate),
        lowpass(design.down_taps, after.cutoff, 2 * after.half_width, design.rate, design.radial),
    )


class SynthesisNetwork(nn.Module):
    """ws -> image by ``input`` and the layers ``L0_...``, ``L1_...``, ...: index, size, channels."""

    def __init__(self, config: AliasFreeConfig) -> None:
        super().__init__()
        self.config = config
        self.input = SynthesisInput(config)
        for design in layer_designs(config):
            self.add_module(design.name, SynthesisLayer(config, design))

    @property
    def layers(self) -> list[SynthesisLayer]:
        """The layers, the image layer last."""
        return list(self.children())[1:]

    def forward(
        self,
        ws: Float[Tensor, "n l w_dim"],
        transform: Motion | None = None,
        decay: float | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """``transform``: of ``motion``, for all images or one each; ``decay``: see ``SynthesisLayer``."""
        if ws.shape[1] != self.config.n_ws:
            raise ConfigError(f"ws has {ws.shape[1]} layers, this generator has {self.config.n_ws}")
        x = self.input(ws[:, 0], transform)
        for layer, w in zip(self.layers, ws[:, 1:].unbind(dim=1), strict=True):
            x = layer(x, w, decay)
        return x * self.config.output_scale


class AliasFreeGenerator(StyleGenerator):
    """z -> image, as ``synthesis(broadcast(mapping(z)))``. It has no noise inputs."""

    family = "StyleGAN3"

    def __init__(self, config: AliasFreeConfig) -> None:
        super().__init__(config, SynthesisNetwork(config))

    def draw(
        self, ws: Float[Tensor, "n l w_dim"], transform: Motion | None = None
    ) -> Float[Tensor, "n c h w"]:
        """The images of ws; ``transform``: of ``motion``."""
        return self.synthesis(ws, transform)

    def affines(self) -> list[FullyConnected]:
        """What turns w into the input's motion and into styles, layer by layer."""
        return [module.affine for module in self.synthesis.children()]

    def forward(
        self,
        z: Float[Tensor, "n z"],
        c: Float[Tensor, "n c"] | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Float[Tensor, "n c h w"]:
        return self.synthesis(self.ws(z, c, psi, cutoff))
