"""Lifted objects, one by one: ``Instances`` are to every command what a ``LiftedGAN`` is, but each of them
has fields of its own, from fine-tuning or refinement.

A file (``.lift``) of one instance holds the tensors in which it differs from the model that it started from,
in half precision, its latents, code, image, view and light, and that model's name and checksum. E_I, E_v and
E_l are left out, as the code, view and light of the instance are there.
"""

import copy
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lift3d import model as models
from lift3d.checkpoint import copy_tensors, read_tensors, require_format, write_tensors
from lift3d.errors import CheckpointError, ConfigError, CorruptFile
from lift3d.gan.generator import Liftable
from lift3d.model import LiftedGAN, Samples
from lift3d.scene.surface import Surface
from lift3d.seeds import seed_list

FORMAT = "lift3d.instance/1"
FILE = "instance.lift"  # in the folder of a run
OWN = ("shape.", "material.", "gan_encoder.", "log_sharpness", "open_bands")  # what a file may replace
CHANGED, SAMPLE = "changed.", "sample."
EXACT = ("seed", "z", "w", "code", "view", "light")  # of a sample, never rounded


class Instances(LiftedGAN):
    """n objects with fields of their own; ``bases`` are the models that they started from.

    ``sample`` gives instance seed mod n for every seed, so that whoever asks for samples of a GAN gets these
    objects in turn. Codes, which ``mesh``, ``render`` and ``surface`` take, say which of them is meant.
    """

    def __init__(self, members: Sequence[LiftedGAN], bases: Sequence[LiftedGAN], samples: Samples) -> None:
        nn.Module.__init__(self)
        first = members[0]
        self.config = first.config
        self._modules = dict(first._modules)
        self._parameters, self._buffers = dict(first._parameters), dict(first._buffers)
        self.members, self.bases = nn.ModuleList(members), tuple(bases)
        self.samples = samples

    @torch.no_grad()
    def sample(self, seeds: Sequence[int] | int, truncation: float | None = None) -> Samples:
        """Instance seed mod n for each of the seeds. ``ConfigError`` for another truncation than the
        preset's, as nothing is drawn.
        """
        if truncation not in (None, self.config.truncation):
            raise ConfigError(f"truncation is {truncation}, but instances are what they are; leave it out")
        seeds = torch.tensor(seed_list(seeds))
        picked = self.samples[seeds % len(self.members)]
        return replace(picked, seed=seeds).to(self.device)

    def lift(
        self,
        w: Float[Tensor, "n w"],
        z: Float[Tensor, "n z"] | None = None,
        seeds: Sequence[int] | None = None,
    ) -> Samples:
        """``ConfigError``: other latents are other objects."""
        raise ConfigError("instances are what they are: latents of your own go with a model")

    def member(self, code: Float[Tensor, " c"]) -> LiftedGAN:
        """The model of the instance with this code. A single instance takes every code; else ``ConfigError``
        for one that is none of theirs.
        """
        return self.members[self._index(self.samples.code, code, "code")]

    def base(self, code: Float[Tensor, " c"]) -> LiftedGAN:
        """The model that the instance with this code started from."""
        return self.bases[self._index(self.samples.code, code, "code")]

    def surface(self, code: Float[Tensor, "b c"], mirror: Float[Tensor, " b"] | None = None) -> Surface:
        """Fields of the instance, as callables; all codes are of the same one."""
        return self.member(code[0]).surface(code, mirror)

    def project(self, w: Float[Tensor, " w"], images: Float[Tensor, "k 3 h h"]) -> Float[Tensor, "k 3 H H"]:
        """As ``LiftedGAN.project``, by the E_w of the instance."""
        return self.members[self._index(self.samples.w, w, "w")].project(w, images)

    def _index(self, own: Float[Tensor, "n d"], given: Float[Tensor, " d"], what: str) -> int:
        if len(self.members) == 1:
            return 0
        same = (own.to(given) == given).all(-1).nonzero()
        if not len(same):
            raise ConfigError(
                f"this {what} belongs to none of the {len(own)} instances: give one of sample(seeds); there "
                "is nothing between two instances, and the benchmark takes one at a time"
            )
        return int(same[0, 0])

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """The file of one instance (module docstring). ``ConfigError`` for several, and for one whose model
        has not been saved yet.
        """
        if len(self.members) != 1:
            raise ConfigError(f"{path} would hold {len(self.members)} instances, expected 1 a file")
        base, member = self.bases[0], self.members[0].state_dict()
        if not base.source:
            raise ConfigError(f"{path} would name no model: save the model first, and load it from its file")
        then = base.state_dict()
        changed = {k: t for k, t in member.items() if k.startswith(OWN) and not torch.equal(t, then[k])}
        tensors = {CHANGED + k: t.to(dtype) for k, t in changed.items()}
        for f in fields(Samples):
            value = getattr(self.samples, f.name)
            tensors[SAMPLE + f.name] = value if f.name in EXACT else value.to(dtype)
        about = {"format": FORMAT, "model": base.source, "checksum": base.checksum()}
        write_tensors(path, tensors, about | {"license": base.config.license})

    @staticmethod
    def load(path: str | Path, generator: Liftable | None = None) -> "Instances":
        """The instance of a file, on the CPU; ``generator`` where its model's file does not hold it.
        ``CheckpointError`` where its model is not found or is another one.
        """
        about, tensors = read_tensors(path)
        require_format(about, FORMAT, path, "`lift3d finetune` and `lift3d refine` make instances")
        name, checksum = about.get("model"), about.get("checksum")
        given = {k.removeprefix(SAMPLE): t for k, t in tensors.items() if k.startswith(SAMPLE)}
        if not isinstance(name, str) or given.keys() != {f.name for f in fields(Samples)}:
            raise CorruptFile(f"{path} is damaged: it does not say what it is an instance of")
        base = _base(Path(path), name, checksum, generator)
        member = own_fields(base)
        changed = [k.removeprefix(CHANGED) for k in tensors if k.startswith(CHANGED)]
        own = {k: t for k, t in member.state_dict().items() if k in changed}
        copy_tensors(own, tensors, CHANGED, path)
        samples = Samples(**{k: t if k == "seed" else t.float() for k, t in given.items()})
        instances = Instances([member], [base], samples)
        instances.source = str(Path(path).resolve())
        return instances.requires_grad_(False).eval()


def own_fields(model: LiftedGAN) -> LiftedGAN:
    """A copy whose networks may change; only the 2D GAN is shared."""
    return copy.deepcopy(model, {id(model.generator): model.generator})


def together(parts: Sequence[Instances]) -> Instances:
    """All of these as one; ``ConfigError`` where their networks differ in size."""
    sizes = {(m.config.name, m.config.size, m.config.n_code, m.samples.w.shape[-1]) for m in parts}
    if len(sizes) > 1:
        raise ConfigError(f"instances of {len(sizes)} categories do not go together: give those of one")
    join = lambda name: torch.cat([getattr(p.samples, name) for p in parts])  # noqa: E731
    samples = Samples(**{f.name: join(f.name) for f in fields(Samples)})
    found = Instances([m for p in parts for m in p.members], [b for p in parts for b in p.bases], samples)
    found.source = ", ".join(part.source for part in parts)
    return found


def load(*names: str | Path, generator: Liftable | None = None) -> LiftedGAN:
    """The bundled model ("demo", also if no name is given), a file written by ``LiftedGAN.save`` or ``lift3d
    pretrain``, or one or several instances of ``lift3d finetune``, ``refine`` and ``invert``; a folder stands
    for the file in it. ``generator``: what a model was lifted from, where that is no StyleGAN (gan/own.py).
    """
    found = [_load(name, generator) for name in names or ("demo",)]
    if len(found) == 1:
        return found[0]
    for name, model in zip(names, found):
        if not isinstance(model, Instances):
            raise ConfigError(f"{name} is a model, and {len(names)} were given; several must be instances")
    return together(found)


def _load(name: str | Path, generator: Liftable | None) -> LiftedGAN:
    path = Path(name)
    if path.is_dir() and (path / FILE).is_file():
        path = path / FILE
    if str(name) != "demo" and path.is_file() and read_tensors(path)[0].get("format") == FORMAT:
        return Instances.load(path, generator)
    return models.load(name, generator)


def _base(path: Path, name: str, checksum: object, generator: Liftable | None) -> LiftedGAN:
    """The model that an instance's file names: where it was, or beside the file."""
    places = ["demo"] if name == "demo" else [Path(name), path.parent / Path(name).name]
    found = [place for place in places if place == "demo" or Path(place).is_file()]
    if not found:
        raise CheckpointError(
            f"{path} is an instance of {name}, which is not there; put it beside the instance"
        )
    base = models.load(found[0], generator)
    if base.checksum() != checksum:
        raise CheckpointError(
            f"{path} is an instance of another version of {name}: its checksum differs; make it anew with "
            "`lift3d refine` or `lift3d finetune`"
        )
    return base
