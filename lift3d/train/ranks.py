"""Several processes, one training: the ranks of a data-parallel run, 0 to R - 1.

Every rank takes the same step with the same random numbers. What costs time, fields, encoders and the GAN,
is ``divided``: a rank evaluates its share of the points or images, and gets the others' results. All then
compute the losses from the same numbers. Backwards, what flows into a share counts R times, and what comes
out of it is averaged over the ranks, as gradients of parameters are in the end: what one rank had alone then
counts once, and so does what all had. So the gradients are those of one process, whatever the loss.

One process, ``ALONE``, never touches torch.distributed. Tensors travel by gloo on the CPU, by NCCL on CUDA.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn

from lift3d.errors import ConfigError, RankLost
from lift3d.model import LiftedGAN
from lift3d.networks.sharing import sharing
from lift3d.scene.shading import Material
from lift3d.scene.surface import Surface

PATIENCE = timedelta(days=1)  # for a rank that is busy alone; one that has ended is noticed at once


@dataclass(frozen=True)
class Ranks:
    """One of ``size`` processes that train together."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this one writes files, logs and pictures."""
        return self.rank == 0

    def divided(self, function: Callable, dim: int = 0) -> Callable:
        """``function`` of tensors, or None, that have rows along ``dim``, as its results do: a tensor or a
        tuple of them. The rows of a result depend on the same rows of the arguments alone.
        """
        if self.size == 1:
            return function

        def evaluate(*whole: Tensor | None) -> Tensor | tuple[Tensor, ...]:
            n = next(x for x in whole if x is not None).shape[dim]
            start, count = self._share(self.rank, n)
            own = function(*(None if x is None else self.whole(x).narrow(dim, start, count) for x in whole))
            if isinstance(own, Tensor):
                return self._joined(own, n, dim)
            return tuple(self._joined(x, n, dim) for x in own)

        return evaluate

    def whole(self, x: Tensor) -> Tensor:
        """The same tensor, which all ranks have, for use in shares."""
        if self.size == 1 or not (x.requires_grad and torch.is_grad_enabled()):
            return x
        x = x.view_as(x)
        x.register_hook(self._mean)
        return x

    def average(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replaces gradients by their means over all ranks."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        if self.size == 1 or not gradients:
            return
        mean = self._mean(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def largest(self, number: int) -> int:
        """The largest number that a rank has."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        with self._together() as distributed:
            distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def first(self, function: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What rank 0 gets of ``function``, which the others do not call."""
        if self.size == 1:
            return function()
        found = function() if self.is_first else {}
        about = [{name: (x.shape, x.dtype, x.device.type) for name, x in found.items()}]
        with self._together() as distributed:
            distributed.broadcast_object_list(about, 0)
            for name, (shape, dtype, device) in about[0].items():
                made = found[name] if self.is_first else torch.empty(shape, dtype=dtype, device=device)
                found[name] = made.contiguous()
                distributed.broadcast(_bytes(found[name]), 0)
        return found

    def wait(self) -> None:
        """Until all ranks are here."""
        self.largest(0)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Rank 0 goes through the block before the others do."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def _mean(self, x: Tensor) -> Tensor:
        """The mean over all ranks."""
        total = x.contiguous().clone()
        with self._together() as distributed:
            distributed.all_reduce(total)
        return total.div_(self.size)

    @contextmanager
    def _together(self) -> Iterator[object]:
        """torch.distributed, for what all ranks do; it fails where one of them is gone."""
        import torch.distributed

        try:
            yield torch.distributed
        except RuntimeError as error:
            raise RankLost(
                f"rank {self.rank} of {self.size} waited for another one, which has ended; the last "
                "checkpoint is whole: start all of them again with --resume"
            ) from error

    def _share(self, rank: int, n: int) -> tuple[int, int]:
        """First row and number of rows that a rank evaluates: equally many on all, so the last ones may take
        rows that another has.
        """
        count = -(-n // self.size)
        return min(rank * count, n - count), count

    def _joined(self, own: Tensor, n: int, dim: int) -> Tensor:
        """All n rows, in order; the gradient that comes back to our own ones counts R times."""
        whole = own.new_empty((self.size, *own.shape))
        with self._together() as distributed:
            distributed.all_gather(list(_bytes(whole)), _bytes(own.detach().contiguous()))
        parts = list(whole)
        if own.requires_grad:
            parts[self.rank] = own
            own.register_hook(lambda gradient: gradient * self.size)
        if dim == 0 and n == self.size * len(own) and not own.requires_grad:
            return whole.flatten(0, 1)
        starts = [self._share(rank, n)[0] for rank in range(self.size)]
        skipped = [min(rank * own.shape[dim], n) - start for rank, start in enumerate(starts)]
        return torch.cat([x.narrow(dim, k, x.shape[dim] - k) for x, k in zip(parts, skipped)], dim)


ALONE = Ranks()


def started_ranks() -> tuple[int, int]:
    """Rank and number of ranks that torchrun started this process as; (0, 1) without it."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """The ranks that torchrun started, which compute on their own ``device``; ``ALONE`` without it."""
    rank, size = started_ranks()
    if size == 1:
        yield ALONE
        return
    import torch.distributed

    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    try:
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    except ValueError as error:  # of a variable that is not there
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {error}; let torchrun start the processes, or unset it"
        ) from error
    ranks = Ranks(rank, size)
    yield ranks
    ranks.wait()
    torch.distributed.destroy_process_group()


def divided_model(model: LiftedGAN, ranks: Ranks) -> LiftedGAN:
    """The model for steps that all ranks take: the same parameters, its networks evaluated in shares."""
    if ranks.size == 1:
        return model

    def surface(code: Tensor, mirror: Tensor | None = None) -> Surface:
        return divided_surface(model.surface(ranks.whole(code), mirror), ranks)

    return sharing(
        model,
        image_encoder=ranks.divided(model.image_encoder),
        gan_encoder=ranks.divided(model.gan_encoder),
        view_encoder=sharing(model.view_encoder, net=ranks.divided(model.view_encoder.net)),
        light_encoder=sharing(model.light_encoder, net=ranks.divided(model.light_encoder.net)),
        synthesize=ranks.divided(model.synthesize),
        surface=surface,
    )


def divided_surface(surface: Surface, ranks: Ranks) -> Surface:
    """A surface whose points [b, p] are shared out."""
    parts = ranks.divided(lambda *at: tuple(vars(surface.material(*at)).values()), 1)
    return Surface(
        ranks.divided(surface.sdf, 1),
        lambda *at: Material(*parts(*at)),
        ranks.divided(surface.sdf_gradient, 1),
        ranks.divided(surface.distance, 1),
    )


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory as numbers that travel."""
    return tensor.view(torch.uint8) if tensor.dtype == torch.bool else tensor
