"""What joint pre-training and fine-tuning consist of: stages of explore -> rerender -> align -> project ->
exploit (method.md, section 3), as lists of phases for the runner; after the last one, the calibration of E_v
and E_l and the distillation of shading into E_I and the fields, and a last step 2."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lift3d.config.schema import Preset, Schedule
from lift3d.masks.sources import MaskSource
from lift3d.model import LiftedGAN
from lift3d.networks.perceptual import Features
from lift3d.observer import Observer
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.train import align, calibrate, distill, exploit, explore, figures
from lift3d.train.data import Photographs, PseudoLabels, Rerendered, SampleSet, label, project, rerender
from lift3d.train.outline import N_WATCHED, require_object
from lift3d.train.phase import Losses, Phase, State, Step
from lift3d.train.pixels import Smoothing
from lift3d.train.ranks import ALONE, Ranks, divided_model
from lift3d.train.runner import LOG

LABELS = "pseudo_labels."  # what names of collected tensors start with: those of projections
OWN = "own."  # and of the samples themselves
CONSISTENCY = 1.0  # weight of what E_v and E_l see in projections, once they are calibrated
GALLERY = "gallery."  # and what was read of images that shading is learned from
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
    photographs: Photographs | None = None
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
        return _phase(model, stage.title, stage.number, kind, *arguments, **options)

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


def after_stages(lift: Lift) -> list[Phase]:
    """What follows the last stage, where the schedule says so: E_v and E_l are calibrated, shading is learned
    at the views they tell, they are calibrated on the better shape again; at last E_w learns to project
    renders of the final fields.
    """
    schedule = lift.schedule
    kinds = [calibration] if schedule.calibrate else []
    if schedule.distill:
        kinds += [distillation, *kinds]
    if schedule.realign:
        kinds.append(realignment)
    numbered = enumerate(kinds, schedule.n_stages)  # goes on counting after the stages
    return [phase for number, kind in numbered for phase in kind(lift, number)]


def calibration(lift: Lift, number: int) -> list[Phase]:
    """E_v and E_l learn from re-renderings; not the first time, of distilled shapes."""
    model, schedule = lift.model, lift.schedule

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        n = calibrate.SHAPES_PER_SAMPLE * schedule.n_samples
        made, labels = calibrate.rerender_unlabeled(
            model,
            lift.unlabeled,
            n,
            schedule.n_rerendered,
            state.rng,
            lift.observer,
            lift.ranks,
            lift.photographs,
            distilled=number > schedule.n_stages,
        )
        return {k: v for k, v in vars(made).items() if v is not None} | _named(labels)

    def learn(state: State) -> Step:
        images = calibrate.clean_images(lift.unlabeled, lift.photographs)
        made, labels = _pseudo(state), replace(_pseudo_labels(lift, state), unlabeled=images)
        return lambda _: calibrate.calibrate_loss(lift.divided, made, labels, state.rng)

    return [
        _phase(model, "calibration", number, "rerender", collect=rerendered),
        _phase(
            model, "calibration", number, "calibrate", schedule.calibrate,
            calibrate.calibrate_groups(model), learn,
        ),
    ]  # fmt: skip


def distillation(lift: Lift, number: int) -> list[Phase]:
    """E_I and the fields learn the shading of unlabeled samples, and of photographs where there are some."""
    model = lift.model
    sources = [s for s in (lift.unlabeled, lift.photographs) if s is not None]

    def read(state: State) -> dict[str, torch.Tensor]:
        seed = int(torch.randint(2**31, (), generator=state.rng))

        def each() -> dict[str, torch.Tensor]:
            found, rng = {}, torch.Generator().manual_seed(seed)
            for i, source in enumerate(sources):
                known = distill.read(model, source.images, source.masks, rng, lift.observer)
                found |= {f"{GALLERY}{i}.{name}": x for name, x in known.items()}
            return found

        return lift.ranks.first(each)

    def learn(state: State) -> Step:
        galleries = []
        for i, source in enumerate(sources):
            start = f"{GALLERY}{i}."
            known = {k.removeprefix(start): x for k, x in state.collected.items() if k.startswith(start)}
            galleries.append(distill.gallery(source.images, source.masks, known))
        lesson = distill.Lesson(galleries)
        return lambda _: distill.distill_loss(lift.divided, lesson, lift.perceptual, state.rng)

    def show(state: State) -> dict[str, float]:
        figures.intrinsics(model, lift.samples, lift.out / "distilled-intrinsics.png")
        figures.curves(lift.out / LOG, lift.out)
        return {}

    return [
        _phase(model, "distillation", number, "read", collect=read),
        _phase(
            model, "distillation", number, "distill", lift.schedule.distill, distill.distill_groups(model),
            learn, report=show,
            guard=lambda: require_object(model, lift.samples.images[:N_WATCHED], "distillation"),
        ),
    ]  # fmt: skip


def realignment(lift: Lift, number: int) -> list[Phase]:
    """E_w learns step 2 again, on renders of the final fields. E_v and E_l are to be trusted by now, so what
    they see in projections counts as much as pixels and features.
    """
    model, schedule = lift.model, lift.schedule

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        made = rerender(
            model, lift.samples, schedule.n_rerendered, state.rng, lift.observer,
            one_shape=False, predict=True, ranks=lift.ranks,
        )  # fmt: skip
        return {k: v for k, v in vars(made).items() if v is not None}

    def learn(state: State) -> Step:
        pseudo = _pseudo(state)
        return lambda _: align.align_loss(
            lift.divided, lift.samples, pseudo, lift.features, state.rng,
            masked=model.config.background is None, consistency=CONSISTENCY, ranks=lift.ranks,
        )  # fmt: skip

    return [
        _phase(model, "last alignment", number, "rerender", collect=rerendered),
        _phase(
            model, "last alignment", number, "realign", schedule.realign, align.align_groups(model), learn,
        ),
    ]  # fmt: skip


def _phase(
    model: LiftedGAN, title: str, number: int, kind: str, *arguments: object, **options: object
) -> Phase:
    """A phase of what is called ``title``."""
    where = {"stage": number, "phase": kind}
    return Phase(f"{title}, {kind}", kind, where, *arguments, cooldown=model.config.rates.cooldown, **options)


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
