"""One object at a time: instance-specific fine-tuning and refinement, which give ``Instances`` (instance.py).

Fine-tuning runs the stages of joint.py with a single sample: from a joint model, or, for categories without
one (LSUN car), from the prior and through several schedules of growing resolution. Its run directory holds
what that of a joint training does, and at the end ``instance.lift``; trained from the prior, it also holds
the model that the instance belongs to, ``model.safetensors``."""

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lift3d.config.presets import with_size
from lift3d.config.schema import Preset, Refinement, Schedule
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.generator import StyleGenerator
from lift3d.gan.published import check_gan
from lift3d.instance import FILE, Instances, own_fields
from lift3d.masks.sources import mask_source, with_masks
from lift3d.model import LiftedGAN, Samples
from lift3d.networks.sharing import sharing
from lift3d.observer import Observer, SilentObserver
from lift3d.scene.images import resize, to_bytes
from lift3d.train.data import samples_of
from lift3d.train.features import compare
from lift3d.train.joint import MODEL, begun, check_folder
from lift3d.train.refine import refine
from lift3d.train.runner import CHECKPOINT_SECONDS
from lift3d.train.stages import Lift, phases, stages


def check_instance_run(
    preset: Preset, out: str | Path, resume: bool = False, overwrite: bool = False
) -> None:
    """Refuses, with ``ConfigError``, a preset without schedules per instance, and a folder in use."""
    if not preset.instance:
        raise ConfigError(
            f"{preset.name} has no schedule per instance: add an [[instance]] table to its file"
        )
    check_folder(Path(out), FILE, resume, overwrite)


def finetune(
    start: LiftedGAN | Preset,
    gan: LoadedGan,
    out: str | Path,
    seed: int = 0,
    latent: Float[Tensor, " w"] | None = None,
    observer: Observer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    device: torch.device | str = "cpu",
    masks: str | Path | None = None,
) -> Instances:
    """Trains one sample of ``gan``, of ``seed`` or of a ``latent`` w, by the preset's schedules per instance,
    into the folder ``out``; ``start`` is a joint model, or a preset to begin from nothing. Where the preset
    says ``refine.after_finetuning``, shading-based refinement on the sample's own image follows the stages.

    Raises ``ConfigError`` for what ``check_instance_run`` refuses, and ``CheckpointError`` for a GAN that
    does not fit the preset, or is not the one that the model was lifted from."""
    out, observer = Path(out), observer or SilentObserver()
    joint = None if isinstance(start, Preset) else start
    preset = with_masks(start if joint is None else joint.config, masks)
    check_instance_run(preset, out, resume, overwrite)
    check_gan(preset, gan)
    torch.manual_seed(seed)
    if joint is None:
        model = LiftedGAN(preset, gan.generator).to(device).requires_grad_(False)
    else:
        _check_same(gan, joint)
        model = own_fields(joint.to(device)).requires_grad_(False)
        model.config = preset
    out.mkdir(parents=True, exist_ok=True)
    z = None if latent is not None else model.latents([seed])
    w = latent if latent is not None else model.to_w(z)[0].cpu()
    model.lift(w[None])  # refuses what is no w
    features, perceptual = compare(gan, preset.size, out, device, observer, resume)
    settings = {
        "seed": seed,
        "latent": hashlib.sha256(w.numpy().tobytes()).hexdigest(),
        "perceptual": perceptual.name,
        "from": "" if joint is None else joint.checksum(),
    }
    runner = begun(model, out / FILE, settings, observer, checkpoint_seconds, resume)
    source = mask_source(preset, masks, out / "to-mask")

    @cache  # several stages share a sample
    def lift(schedule: Schedule) -> Lift:
        sized = sharing(model)  # encoders enlarge what is smaller than theirs
        sized.config = with_size(model.config, schedule.size)
        samples = samples_of(sized, w[None], torch.tensor([seed]), source)
        return Lift(
            sized, features, schedule, samples, None, perceptual, source, observer, out, keep_models=False
        )

    all_stages = stages(preset, preset.instance, from_prior=joint is None)
    runner.run([phase for stage in all_stages for phase in phases(lift(stage.schedule), stage)])
    if joint is None:
        model.save(out / MODEL)
        foreign = None if isinstance(gan.generator, StyleGenerator) else gan.generator
        joint = LiftedGAN.load(out / MODEL, foreign).to(device)
        joint.source, model = str((out / MODEL).resolve()), joint
    sample = model.lift(w[None], z, None if z is None else [seed]).to("cpu")
    found = Instances([model], [joint], sample)
    if preset.refine.after_finetuning:
        own = samples_of(model, w[None], torch.tensor([seed]), source)
        found = refine_sample(found, sample, own.masks, seed=seed, observer=observer)
    found.save(out / FILE)
    return found


def refine_sample(
    model: LiftedGAN,
    sample: Samples,
    masks: Bool[Tensor, "1 s s"],
    config: Refinement | None = None,
    seed: int = 0,
    observer: Observer | None = None,
    image: Float[Tensor, "1 3 s s"] | None = None,
) -> Instances:
    """Shading-based refinement of one sample, [1], of a model or of instances, on its own image or the same
    ``image`` of another size, that of the masks: code, view and light start from the sample's. ``config``
    defaults to the preset's.
    """
    member, base = model, model
    if isinstance(model, Instances):
        member, base = model.member(sample.code[0]), model.base(sample.code[0])
    config = member.config.refine if config is None else config
    start = {name: getattr(sample, name).to(member.device) for name in ("view", "light", "code")}
    image, masks = (x.to(member.device) for x in (sample.image if image is None else image, masks))
    found = refine(member, image, masks, config, **start, seed=seed, observer=observer)
    now = {name: getattr(found, name).detach() for name in start}
    return Instances([found.into(member)], [base], replace(sample, **now).to("cpu"))


def refine_image(
    model: LiftedGAN,
    image: Float[Tensor, "3 h w"],
    mask: Bool[Tensor, "h w"] | None,
    iterations: int | None,
    seed: int,
) -> Instances:
    """``LiftedGAN.refine``."""
    size, shape = model.config.size, tuple(image.shape)
    if shape[1] < size or shape != (3, shape[1], shape[1]):
        raise ConfigError(f"image has the shape {shape}, expected {(3, size, size)} or more pixels a side")
    if mask is None:
        mask = mask_source(model.config)(to_bytes(image[None]).cpu(), ["image"])[0]
    sample, config = model.invert(resize(image[None], size)), with_iterations(model, iterations)
    return refine_sample(model, sample, mask[None], config, seed, image=image[None])


def with_iterations(model: LiftedGAN, iterations: int | None) -> Refinement:
    """The refinement of a model's preset, with so many iterations where they are given."""
    config = model.config
    if iterations is None:
        return config.refine
    return replace(config, refine=replace(config.refine, iterations=iterations)).refine  # which checks it


def _check_same(gan: LoadedGan, model: LiftedGAN) -> None:
    """Models keep their GAN in half precision at the least, and not its discriminator."""
    own, given = model.generator.state_dict(), gan.generator.state_dict()
    same = own.keys() == given.keys() and all(
        own[k].shape == t.shape and torch.equal(own[k].cpu().half(), t.cpu().half()) for k, t in given.items()
    )
    if not same:
        raise CheckpointError(f"{gan.source} is not the GAN that the model was lifted from; give that one")
