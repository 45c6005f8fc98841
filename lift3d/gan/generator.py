"""What lifting asks of a 2D GAN (``Liftable``), and what all style-based generators answer the same way.

Symbols: z latent, w intermediate latent, ws one w per layer ("n l w_dim"), h a state inside z -> w. Images
are ``n 3 h w``, nominally in [-1, 1], not clamped.
"""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d.gan.mapping import FullyConnected, MappingNetwork

N_TAIL = 3  # last layers of the mapping network that offsets pass through (GAN2Shape)


@runtime_checkable
class Liftable(Protocol):
    """A 2D GAN that can be lifted: a ``torch.nn.Module`` with these members.

    A module of your own fulfils it with ``offset`` and ``styles`` that return their argument, and ``h_dim``
    equal to ``w_dim``. All methods are differentiable; none draws random numbers. One more, ``features``, may
    be there: images [n, 3, h, w] in [-1, 1] of any size -> feature maps [n, c, h', w'], fine to coarse, by
    which images are compared.
    """

    z_dim: int
    w_dim: int
    h_dim: int  # width of the steps that ``offset`` takes
    resolution: int  # pixels per side
    w_avg: Tensor  # [w_dim], the mean of w, on the device of the weights

    def to_w(self, z: Float[Tensor, "n z"]) -> Float[Tensor, "n w_dim"]:
        """The intermediate latents of z ~ N(0, 1)."""
        ...

    def to_image(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n 3 h w"]:
        """The images of w: the same w gives the same image."""
        ...

    def offset(self, step: Float[Tensor, "n h"]) -> Float[Tensor, "n w_dim"]:
        """The latent offset that a step means: 0 for a step of 0, and plausible for steps of any size."""
        ...

    def styles(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n s"]:
        """What the image depends on, as a function of w: latents are compared by it."""
        ...


class StyleGenerator(nn.Module):
    """z -> w -> ws -> image with ``mapping`` and ``synthesis``; subclasses add ``draw`` and ``affines``."""

    family: str  # "StyleGAN2" or "StyleGAN3"

    def __init__(self, config: object, synthesis: nn.Module) -> None:
        super().__init__()
        self.config, self.synthesis = config, synthesis
        self.mapping = MappingNetwork(
            config.z_dim, config.c_dim, config.w_dim, config.n_mapping_layers, config.mapping_lr
        )
        self.to(memory_format=torch.channels_last)

    @property
    def z_dim(self) -> int:
        return self.config.z_dim

    @property
    def w_dim(self) -> int:
        return self.config.w_dim

    @property
    def h_dim(self) -> int:
        """Width of the state that the last ``N_TAIL`` layers of the mapping network read."""
        return self.mapping.width_before(N_TAIL)

    @property
    def resolution(self) -> int:
        return self.config.resolution

    @property
    def w_avg(self) -> Float[Tensor, " w_dim"]:
        return self.mapping.w_avg

    def draw(self, ws: Float[Tensor, "n l w_dim"]) -> Float[Tensor, "n c h w"]:
        """The images of ws, without drawing random numbers."""
        raise NotImplementedError

    def affines(self) -> list[FullyConnected]:
        """What turns w into styles, layer by layer."""
        raise NotImplementedError

    def to_w(
        self, z: Float[Tensor, "n z"], c: Float[Tensor, "n c"] | None = None
    ) -> Float[Tensor, "n w_dim"]:
        """The intermediate latents of z; c is the condition, where there is one."""
        return self.mapping(z, c)

    def to_image(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n c h w"]:
        """The images of w, the same in all layers."""
        return self.draw(w[:, None].expand(-1, self.config.n_ws, -1))

    def offset(self, step: Float[Tensor, "n h"]) -> Float[Tensor, "n w_dim"]:
        """M(h0 + step) - M(h0), M the last layers of the mapping network, h0 its state before M for z = 0."""
        h0 = self.mapping.hidden(step.new_zeros(1, self.z_dim), N_TAIL)
        return self.mapping.tail(h0 + step, N_TAIL) - self.mapping.tail(h0, N_TAIL)

    def styles(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n s"]:
        """The styles of all layers side by side: what the image depends on, an affine function of w."""
        return torch.cat([affine(w) for affine in self.affines()], dim=1)

    def ws(
        self,
        z: Float[Tensor, "n z"],
        c: Float[Tensor, "n c"] | None = None,
        psi: float = 1.0,
        cutoff: int | None = None,
    ) -> Float[Tensor, "n l w_dim"]:
        """One w per layer, pulled towards ``w_avg`` by psi in the first ``cutoff`` layers (None: all)."""
        ws = self.mapping(z, c).unsqueeze(1).repeat(1, self.config.n_ws, 1)
        return self.truncate(ws, psi, cutoff)

    def truncate(
        self, ws: Float[Tensor, "n l w_dim"], psi: float, cutoff: int | None = None
    ) -> Float[Tensor, "n l w_dim"]:
        """w_avg + psi (w - w_avg) in the first ``cutoff`` layers (None: all)."""
        if psi == 1.0:
            return ws
        near = self.mapping.w_avg.lerp(ws[:, :cutoff], psi)
        return torch.cat([near, ws[:, near.shape[1] :]], dim=1)
