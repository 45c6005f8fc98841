"""Joint pre-training: stages of explore -> rerender -> align -> project -> exploit (method.md, section 3),
then the calibration of E_v and E_l, as a list of phases for the runner.

A run directory holds, beside the files of runner.py, ``curves-<phase>.png``, contact sheets and a model per
stage, and at the end ``model.safetensors``."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from lift3d.networks.perceptual import Features
from lift3d.observer import Observer, SilentObserver
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.seeds import UNLABELED_SEED, training_seed
from lift3d.train import align, calibrate, exploit, explore, figures
from lift3d.train.data import PseudoLabels, Rerendered, SampleSet, draw_samples, label, project, rerender
from lift3d.train.features import compare
from lift3d.train.outline import N_WATCHED, require_object
from lift3d.train.phase import Losses, Phase, State, Step
from lift3d.train.pixels import Smoothing
from lift3d.train.ranks import ALONE, Ranks, divided_model
from lift3d.train.runner import CHECKPOINT_SECONDS, LOG, STATE, Runner

MODEL = "model.safetensors"
LABELS = "pseudo_labels."  # what names of collected tensors start with: those of projections
OWN = "own."  # and of the samples themselves
AfterStage = Callable[[LiftedGAN, int], dict[str, float]]  # scalars for the log


@dataclass(frozen=True)
class Stage:
    """What one stage does: its steps and its assumptions."""

    number: int  # from 0, over all schedules of a run
    n_stages: int  # of all of them
    n_explore: int
    n_latent: int
    n_align: int
    n_exploit: int
    open_bands: tuple[float, float]  # before its first step of the fields, and by how much each raises it
    from_prior: bool  # the shape is still the prior, and E_I, E_v and E_l know nothing: E_I trains in step 1,
    # and own views and lights are the known ones
    symmetric: bool  # half of the objects are mirrored in step 3
    masked: bool  # E_w's target is cut out
    consistency: float  # weight of the view and light of projections in step 2

    @property
    def title(self) -> str:
        """For people, who count from 1."""
        return f"stage {self.number + 1} of {self.n_stages}"


@dataclass(frozen=True)
class Lift:
    """What all stages of a training share."""

    model: LiftedGAN
    features: Features
    schedule: Schedule
    samples: SampleSet
    unlabeled: SampleSet | None
    perceptual: torch.nn.Module
    masks: MaskSource
    observer: Observer
    out: Path
    keep_models: bool = True  # of every stage
    ranks: Ranks = ALONE

    @property
    def divided(self) -> LiftedGAN:
        """The model for steps, which all ranks take together."""
        return divided_model(self.model, self.ranks)

    @property
    def smoothing(self) -> Smoothing:
        """Of steps 1 and 3."""
        s = self.schedule
        return Smoothing(s.smooth_albedo, s.smooth_specular, self.model.config.weights.beta)


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
) -> LiftedGAN:
    """Lifts ``gan`` by the preset's joint schedule into ``out``; returns the model, which is also saved
    there.

    ``after_stage(model, stage)`` may return scalars for the log. ``masks``: see ``with_masks``. Of several
    ``ranks``, each calls this, and all get the model. Raises
    ``ConfigError`` for a preset without joint schedule, a directory that holds a run (``resume``,
    ``overwrite``) and missing masks, and ``CheckpointError`` for a GAN that does not fit the preset or a
    foreign checkpoint."""
    out, observer = Path(out), observer or SilentObserver()
    schedule = check_run(preset, out, resume, overwrite)
    check_gan(preset, gan)
    preset = with_masks(preset, masks)
    source = mask_source(preset, masks, out / "to-mask")
    ranks.wait()  # all have seen the folder as it was
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = LiftedGAN(preset, gan.generator).to(device).requires_grad_(False)
    with ranks.first_alone():  # what the first one trains, the others find
        found = resume or not ranks.is_first
        features, perceptual = compare(gan, preset.size, out, device, observer, found)
    runner = new_runner(
        model, out, {"seed": seed, "perceptual": perceptual.name}, observer, checkpoint_seconds, ranks
    )
    if not resume:
        (out / MODEL).unlink(missing_ok=True)
    runner.begin(resume)

    def drawn(n: int, first_seed: int, masks: MaskSource) -> SampleSet:
        def tensors() -> dict[str, torch.Tensor]:
            made = draw_samples(model, n, first_seed, masks)
            return {"w": made.w, "images": made.images, "masks": made.masks}

        return SampleSet(**ranks.first(tensors), first_seed=first_seed)

    unlabeled = None
    if preset.n_unlabeled:
        plain = preset.background is not None
        outlines = mask_source(replace(preset, masks="background")) if plain else source
        unlabeled = drawn(preset.n_unlabeled, UNLABELED_SEED, outlines)
    samples = drawn(schedule.n_samples, training_seed(seed), source)

    lift = Lift(model, features, schedule, samples, unlabeled, perceptual, source, observer, out, ranks=ranks)
    in_stages = [p for stage in stages(preset, schedule) for p in phases(lift, stage, after_stage)]
    runner.run([*in_stages, *calibration(lift)])
    if ranks.is_first:
        model.save(out / MODEL)
    return model


def new_runner(
    model: LiftedGAN,
    out: Path,
    settings: dict[str, object],
    observer: Observer,
    checkpoint_seconds: float,
    ranks: Ranks = ALONE,
) -> Runner:
    """A runner of all that trains of a model; ``settings``, beside the preset's, must have a "seed"."""
    own = {k: v for k, v in model.state_dict().items() if not k.startswith("generator.")}
    rng = torch.Generator().manual_seed(settings["seed"])
    about = json.loads(model.config.to_json()) | settings
    return Runner(out, own, about, rng, observer, checkpoint_seconds, ranks)


def stages(
    preset: Preset, schedule: Schedule, *, from_prior: bool = True, before: int = 0, after: int = 0
) -> list[Stage]:
    """The stages of a schedule, with ``before`` and ``after`` stages of other schedules around. Encoding
    bands open linearly over all steps of the fields (1 and 3). ``from_prior``: nothing is learned yet.
    """
    n_stages, (low, high) = schedule.n_stages, schedule.open_bands
    n_explore = [schedule.explore_first] + [schedule.explore] * (n_stages - 1)
    rise = (high - low) / max(1, sum(n_explore) + n_stages * schedule.exploit - 1)
    found, done = [], 0
    for number in range(n_stages):
        first = from_prior and number == 0
        found.append(
            Stage(
                before + number, before + n_stages + after, n_explore[number],
                schedule.latent if first else 0, schedule.align,
                schedule.exploit, (low + rise * done, rise), from_prior=first,
                symmetric=first and preset.joint is not None,
                masked=first or preset.background is None,
                consistency=0.0 if first else preset.weights.consistency,
            )
        )  # fmt: skip
        done += n_explore[number] + schedule.exploit
    return found


def phases(lift: Lift, stage: Stage, after_stage: AfterStage | None = None) -> list[Phase]:
    """The phases of a stage: five, after one that labels the samples where E_v and E_l know nothing yet."""
    model, observer, m = lift.model, lift.observer, lift.schedule.n_rerendered

    def own(state: State) -> SampleSet:
        """The samples, with views and lights where they were labeled."""
        if not (stage.from_prior and OWN + "views" in state.collected):
            return lift.samples
        labels = {name: state.collected[OWN + name] for name in ("views", "lights")}
        return replace(lift.samples, **labels)

    def labeled(state: State) -> dict[str, torch.Tensor]:
        def read() -> dict[str, torch.Tensor]:
            labeler = new_labeler(model, lift.unlabeled.images, lift.unlabeled.masks)
            views, lights = labeler.label(lift.samples.images, lift.samples.masks)
            return {OWN + "views": views, OWN + "lights": lights}

        return lift.ranks.first(read)

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        made = rerender(
            model,
            own(state),
            m,
            state.rng,
            observer,
            one_shape=stage.from_prior,
            predict=not stage.from_prior,
            ranks=lift.ranks,
        )
        return {k: v for k, v in vars(made).items() if v is not None}

    def projected(state: State) -> dict[str, torch.Tensor]:
        folder = f"stage-{stage.number}"
        made = project(model, lift.samples, _pseudo(state), observer, lift.masks, folder, lift.ranks)
        tensors = {k: getattr(made, k) for k in ("projected", "projected_masks")}
        if lift.unlabeled is not None:
            tensors |= lift.ranks.first(lambda: _named(label(model, made, lift.unlabeled)))
        return tensors

    def show(state: State) -> dict[str, float]:
        path = lift.out / f"stage-{stage.number}-projections.png"
        figures.projections(model, lift.samples, _rerendered(state), path)
        return {}

    def finish(state: State) -> dict[str, float]:
        """Pictures, curves, measurements and the model of the stage that has just ended."""
        figures.intrinsics(model, lift.samples, lift.out / f"stage-{stage.number}-intrinsics.png")
        figures.curves(lift.out / LOG, lift.out)
        if lift.keep_models:
            model.save(lift.out / f"model-stage-{stage.number}.safetensors")
        return {} if after_stage is None else after_stage(model, stage.number)

    def phase(kind: str, *arguments: object, **options: object) -> Phase:
        where = {"stage": stage.number, "phase": kind}
        return Phase(
            f"{stage.title}, {kind}", kind, where, *arguments, cooldown=model.config.rates.cooldown, **options
        )

    first = [phase("label", collect=labeled)] if stage.from_prior and lift.unlabeled is not None else []
    return [
        *first,
        phase(
            "explore", stage.n_explore, explore.explore_groups(model, stage.from_prior),
            lambda state: _explore(lift, stage, own(state), state),
        ),
        phase("rerender", collect=rerendered),
        phase(
            "align", stage.n_latent + stage.n_align, align.align_groups(model),
            lambda state: _align(lift, stage, state),
        ),
        phase("project", collect=projected, report=show),
        phase(
            "exploit", stage.n_exploit, exploit.exploit_groups(model),
            lambda state: _exploit(lift, stage, state), report=finish,
            guard=lambda: require_object(model, lift.samples.images[:N_WATCHED], f"{stage.title}, exploit"),
        ),
    ]  # fmt: skip


def calibration(lift: Lift) -> list[Phase]:
    """What follows the last stage where the schedule says so: E_v and E_l learn from re-renderings."""
    model, schedule = lift.model, lift.schedule
    if not schedule.calibrate:
        return []

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        n = calibrate.SHAPES_PER_SAMPLE * schedule.n_samples
        made, labels = calibrate.rerender_unlabeled(
            model, lift.unlabeled, n, schedule.n_rerendered, state.rng, lift.observer, lift.ranks
        )
        return {k: v for k, v in vars(made).items() if v is not None} | _named(labels)

    def learn(state: State) -> Step:
        made, labels = _pseudo(state), _pseudo_labels(lift, state)
        return lambda _: calibrate.calibrate_loss(lift.divided, made, labels, state.rng)

    def phase(kind: str, *arguments: object, **options: object) -> Phase:
        where = {"stage": schedule.n_stages, "phase": kind}
        cooldown = model.config.rates.cooldown
        return Phase(f"calibration, {kind}", kind, where, *arguments, cooldown=cooldown, **options)

    return [
        phase("rerender", collect=rerendered),
        phase("calibrate", schedule.calibrate, calibrate.calibrate_groups(model), learn),
    ]


def _explore(lift: Lift, stage: Stage, samples: SampleSet, state: State) -> Step:
    near, (low, rise) = explore.near_insides(samples), stage.open_bands
    model = lift.divided

    def step(number: int) -> Losses:
        lift.model.open_bands.fill_(low + rise * number)
        return explore.explore_loss(
            model, samples, near, lift.smoothing, state.rng,
            with_code=stage.from_prior, predict=not stage.from_prior,
        )  # fmt: skip

    return step


def _align(lift: Lift, stage: Stage, state: State) -> Step:
    rerendered, (low, rise) = _pseudo(state), stage.open_bands
    model = lift.divided

    def step(number: int) -> Losses:
        lift.model.open_bands.fill_(low + rise * stage.n_explore)
        if number < stage.n_latent:
            return align.latent_loss(model, lift.unlabeled, rerendered, state.rng)
        return align.align_loss(
            model, lift.samples, rerendered, lift.features, state.rng,
            masked=stage.masked, consistency=stage.consistency, ranks=lift.ranks,
        )  # fmt: skip

    return step


def _exploit(lift: Lift, stage: Stage, state: State) -> Step:
    lesson = exploit.Lesson.of(lift.samples, _rerendered(state), _pseudo_labels(lift, state))
    low, rise = stage.open_bands
    model = lift.divided

    def step(number: int) -> Losses:
        lift.model.open_bands.fill_(low + rise * (stage.n_explore + number))
        return exploit.exploit_loss(
            model, lesson, lift.smoothing, lift.perceptual, state.rng, mirror_shapes=stage.symmetric
        )

    return step


def _pseudo(state: State) -> Rerendered:
    """Pseudo images alone: projections that were collected are those of the stage before."""
    return Rerendered(**{k: state.collected[k] for k in ("views", "lights", "pseudo", "pseudo_masks")})


def _pseudo_labels(lift: Lift, state: State) -> PseudoLabels | None:
    """Those that were collected last, if any."""
    labels = {k.removeprefix(LABELS): v for k, v in state.collected.items() if k.startswith(LABELS)}
    return PseudoLabels(unlabeled=lift.unlabeled, **labels) if labels else None


def _named(labels: PseudoLabels) -> dict[str, torch.Tensor]:
    """Labels as they are collected."""
    return {LABELS + k: v for k, v in vars(labels).items() if k != "unlabeled"}


def _rerendered(state: State) -> Rerendered:
    return Rerendered(**{k: v for k, v in state.collected.items() if "." not in k})
