"""Joint pre-training: the stages of stages.py, and what follows them, run in a directory.

A run directory holds, beside the files of runner.py, ``curves-<phase>.png``, contact sheets and a model per
stage, and at the end ``model.safetensors``."""

import json
from dataclasses import replace
from pathlib import Path

import torch

from lift3d.config.schema import Preset, Schedule
from lift3d.config.toml import open_preset
from lift3d.errors import ConfigError
from lift3d.gan.files.load import LoadedGan
from lift3d.gan.generator import Liftable
from lift3d.gan.own import as_gan
from lift3d.gan.published import check_gan, find_gan
from lift3d.masks.sources import MaskSource, mask_source, with_masks
from lift3d.model import LiftedGAN
from lift3d.observer import Observer, SilentObserver
from lift3d.seeds import UNLABELED_SEED, training_seed
from lift3d.train.data import SampleSet, draw_samples, open_photographs
from lift3d.train.features import compare
from lift3d.train.ranks import ALONE, Ranks
from lift3d.train.runner import CHECKPOINT_SECONDS, STATE, Runner
from lift3d.train.stages import AfterStage, Lift, after_stages, phases, stages

MODEL = "model.safetensors"


def check_run(preset: Preset, out: str | Path, resume: bool = False, overwrite: bool = False) -> Schedule:
    """The joint schedule of a run that may start in ``out``; ``ConfigError`` says why it may not."""
    if preset.joint is None:
        raise ConfigError(
            f"{preset.name} has no joint pre-training, it is trained per instance: "
            f"`lift3d finetune --dataset {preset.name} --seed 7` trains one"
        )
    check_folder(Path(out), MODEL, resume, overwrite)
    return preset.joint


def check_folder(out: Path, result: str, resume: bool, overwrite: bool) -> None:
    """Refuses, with ``ConfigError``, a folder that a run with this result may not start or go on in."""
    exists = (out / STATE).exists() or (out / result).exists()
    if exists and not (resume or overwrite):
        raise ConfigError(
            f"{out} already holds a run: pass --resume to continue it or --overwrite to start anew"
        )
    if resume and not exists:
        raise ConfigError(f"{out} holds no run to resume: leave out --resume")


def lift(
    gan: LoadedGan | Liftable | str | Path,
    preset: Preset | str,
    out: str | Path,
    **options: object,
) -> LiftedGAN:
    """Lifts a 2D GAN into the folder ``out``, as ``lift3d pretrain`` does: a file, a generator of one's own
    (``Liftable``) or the name of a function that makes one, package.module:function.

    ``preset`` is a preset, its name, or a category's TOML file; ``options`` are those of ``pretrain``.
    """
    chosen = preset if isinstance(preset, Preset) else open_preset(str(preset))
    if isinstance(gan, torch.nn.Module):
        gan = as_gan(gan)
    loaded = gan if isinstance(gan, LoadedGan) else find_gan(chosen, gan)
    return pretrain(chosen, loaded, out, **options)


def pretrain(
    preset: Preset,
    gan: LoadedGan,
    out: str | Path,
    observer: Observer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    after_stage: AfterStage | None = None,
    device: torch.device | str = "cpu",
    masks: str | Path | None = None,
    ranks: Ranks = ALONE,
    photographs: str | Path | None = None,
) -> LiftedGAN:
    """Lifts ``gan`` by the preset's joint schedule into ``out``; returns the model, which is also saved
    there.

    ``after_stage(model, stage)`` may return scalars for the log. ``masks``: see ``with_masks``.
    ``photographs``: see ``open_photographs``; shading is learned from them as well. Of several ``ranks``,
    each calls this, and all get the model. Raises ``ConfigError`` for a preset without joint schedule, a
    directory that holds a run (``resume``, ``overwrite``), missing masks, and photographs where the schedule
    has no ``distill``; ``CheckpointError`` for a GAN that does not fit the preset or a foreign checkpoint."""
    out, observer = Path(out), observer or SilentObserver()
    schedule = check_run(preset, out, resume, overwrite)
    check_gan(preset, gan)
    if photographs is not None and not schedule.distill:
        raise ConfigError(f"photographs are for distillation, which {preset.name} lacks: set joint.distill")
    preset = with_masks(preset, masks)
    source = mask_source(preset, masks, out / "to-mask")
    ranks.wait()  # all have seen the folder as it was
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = LiftedGAN(preset, gan.generator).to(device).requires_grad_(False)
    with ranks.first_alone():  # what the first one makes, the others find
        found = resume or not ranks.is_first
        features, perceptual = compare(gan, preset.size, out, device, observer, found)
        pictures = None
        if photographs is not None:
            pictures = open_photographs(Path(photographs), out, preset.size, source, observer, found)
    settings = {"seed": seed, "perceptual": perceptual.name}
    settings |= {} if pictures is None else {"photographs": len(pictures.images)}
    runner = begun(model, out / MODEL, settings, observer, checkpoint_seconds, resume, ranks)

    def drawn(n: int, first_seed: int, masks: MaskSource) -> SampleSet:
        return SampleSet(**ranks.first(lambda: draw_samples(model, n, first_seed, masks).tensors()))

    unlabeled = None
    if preset.n_unlabeled:
        plain = preset.background is not None
        outlines = mask_source(replace(preset, masks="background")) if plain else source
        unlabeled = drawn(preset.n_unlabeled, UNLABELED_SEED, outlines)
    samples = drawn(schedule.n_samples, training_seed(seed), source)

    lift = Lift(
        model, features, schedule, samples, unlabeled, perceptual, source, observer, out, ranks=ranks,
        photographs=pictures,
    )  # fmt: skip
    in_stages = [p for stage in stages(preset, [schedule]) for p in phases(lift, stage, after_stage)]
    runner.run([*in_stages, *after_stages(lift)])
    if ranks.is_first:
        model.save(out / MODEL)
    return model


def begun(
    model: LiftedGAN,
    result: Path,
    settings: dict[str, object],
    observer: Observer,
    checkpoint_seconds: float,
    resume: bool,
    ranks: Ranks = ALONE,
) -> Runner:
    """A runner of all that trains of a model, in the folder of the ``result``, which has begun; ``settings``,
    beside the preset's, must have a "seed".
    """
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("generator.")}
    rng = torch.Generator().manual_seed(settings["seed"])
    about = json.loads(model.config.to_json()) | settings
    runner = Runner(result.parent, own, about, rng, observer, checkpoint_seconds, ranks)
    if not resume:
        result.unlink(missing_ok=True)
    runner.begin(resume)
    return runner
