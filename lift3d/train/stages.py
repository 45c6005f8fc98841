"""What joint pre-training and fine-tuning consist of: stages of explore -> rerender -> align -> project ->
exploit (method.md, section 3), as lists of phases for the runner; after the last one, the calibration of E_v
and E_l and the distillation of shading into E_I and the fields, the lean of shapes, and a last step 2."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from lift3d.config.schema import Preset, Schedule
from lift3d.masks.morphology import around_outline
from lift3d.masks.sources import MaskSource
from lift3d.model import LiftedGAN
from lift3d.networks.perceptual import Features
from lift3d.observer import Observer
from lift3d.pseudo_labels.labeler import new_labeler
from lift3d.train import align, calibrate, distill, exploit, explore, figures, lean
from lift3d.train.consistency import view_light_loss
from lift3d.train.data import Images, SampleSet, label, project, rerender
from lift3d.train.outline import N_WATCHED, require_object
from lift3d.train.phase import Losses, Phase, State, Step, named
from lift3d.train.ranks import ALONE, Ranks, divided_model
from lift3d.train.runner import LOG

CONSISTENCY = 1.0  # weight of what E_v and E_l see in projections, once they are calibrated
LABELS = ("views", "lights")
AfterStage = Callable[[LiftedGAN, int], dict[str, float]]  # scalars for the log


@dataclass(frozen=True)
class Stage:
    """What one stage does: its steps and its assumptions."""

    schedule: Schedule  # that it is of
    number: int  # from 0, over all schedules of a run
    n_stages: int  # of all of them
    n_explore: int
    n_latent: int
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
    photographs: Images | None = None
    ranks: Ranks = ALONE

    @cached_property
    def divided(self) -> LiftedGAN:
        """The model for steps, which all ranks take together."""
        return divided_model(self.model, self.ranks)

    def rerendered(self, state: State, samples: SampleSet, **options: bool) -> dict[str, torch.Tensor]:
        """Pseudo images of samples, as they are collected; ``options`` of ``rerender``."""
        m, rng = self.schedule.n_rerendered, state.rng
        made = rerender(self.model, samples, m, rng, self.observer, ranks=self.ranks, **options)
        return named("pseudo", made.tensors())

    def align_loss(self, state: State, pseudo: Images, **options: object) -> Losses:
        """Step 2; ``options`` of ``align.align_loss``."""
        features, rng = self.features, state.rng
        return align.align_loss(
            self.divided, self.samples, pseudo, features, rng, ranks=self.ranks, **options
        )

    def guard(self, title: str) -> None:
        """Raises ``TrainingDiverged`` where the shapes of samples have vanished."""
        require_object(self.model, self.samples.images[:N_WATCHED], title)

    def draw_intrinsics(self, name: str) -> None:
        """The pictures of what was learned, and the curves of the log."""
        figures.intrinsics(self.model, self.samples, self.out / f"{name}-intrinsics.png")
        figures.curves(self.out / LOG, self.out)


def stages(preset: Preset, schedules: Sequence[Schedule], *, from_prior: bool = True) -> list[Stage]:
    """The stages of schedules, one after the other. Encoding bands open linearly over all steps of the fields
    (1 and 3) of a schedule. ``from_prior``: nothing is learned yet.
    """
    found, n_stages = [], sum(schedule.n_stages for schedule in schedules)
    for s in schedules:
        n_explore, (low, high), done = [s.explore_first] + [s.explore] * (s.n_stages - 1), s.open_bands, 0
        rise = (high - low) / max(1, sum(n_explore) + s.n_stages * s.exploit - 1)
        for n in n_explore:
            first = from_prior and not found
            found.append(
                Stage(
                    s, len(found), n_stages, n, s.latent if first else 0, (low + rise * done, rise),
                    from_prior=first, symmetric=first and preset.joint is not None,
                    masked=first or preset.background is None,
                    consistency=0.0 if first else preset.weights.consistency,
                )
            )  # fmt: skip
            done += n + s.exploit
    return found


def phases(lift: Lift, stage: Stage, after_stage: AfterStage | None = None) -> list[Phase]:
    """The phases of a stage: five, after one that labels the samples where E_v and E_l know nothing yet."""
    model, name, (low, rise) = lift.model, f"stage-{stage.number}", stage.open_bands
    phase = partial(_phase, model, stage.title, stage.number)

    def own(state: State) -> SampleSet:
        return replace(lift.samples, **state.of("own"))

    def labeled(state: State) -> dict[str, torch.Tensor]:
        def read() -> dict[str, torch.Tensor]:
            labeler = new_labeler(model, lift.unlabeled.images, lift.unlabeled.masks)
            return named("own", lift.samples.labeled(labeler.label).tensors(*LABELS))

        return lift.ranks.first(read)

    def explored(state: State) -> Step:
        samples, s = own(state), lift.schedule

        def loss(number: int) -> Losses:
            model.open_bands.fill_(low + rise * number)
            return explore.explore_loss(lift.divided, samples, s, state.rng, from_prior=stage.from_prior)

        return loss

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        return lift.rerendered(state, own(state), one_shape=stage.from_prior, predict=not stage.from_prior)

    def aligned(state: State) -> Step:
        pseudo = Images(**state.of("pseudo"))

        def loss(number: int) -> Losses:
            model.open_bands.fill_(low + rise * stage.n_explore)
            if number < stage.n_latent:
                return align.latent_loss(lift.divided, lift.unlabeled, pseudo, state.rng)
            return lift.align_loss(state, pseudo, masked=stage.masked, consistency=stage.consistency)

        return loss

    def projected(state: State) -> dict[str, torch.Tensor]:
        pseudo = Images(**state.of("pseudo"))
        made = project(model, lift.samples, pseudo, lift.observer, lift.masks, name, lift.ranks)

        def read() -> dict[str, torch.Tensor]:
            read, clean = label(model, made, lift.unlabeled)
            return named("projected", read.tensors(*LABELS)) | named("unlabeled", clean.tensors(*LABELS))

        labels = {} if lift.unlabeled is None else lift.ranks.first(read)
        return named("projected", made.tensors()) | labels

    def show(state: State) -> None:
        pseudo, made = Images(**state.of("pseudo")), Images(**state.of("projected"))
        figures.projections(lift.samples, pseudo, made, lift.out / f"{name}-projections.png")

    def exploited(state: State) -> Step:
        made, clean = Images(**state.of("projected")), lift.samples
        if lift.unlabeled is not None:
            clean = replace(lift.unlabeled, **state.of("unlabeled"))

        def loss(number: int) -> Losses:
            model.open_bands.fill_(low + rise * (stage.n_explore + number))
            return exploit.exploit_loss(
                lift.divided, lift.samples, made, clean, lift.schedule, lift.perceptual, state.rng,
                mirror_shapes=stage.symmetric,
            )  # fmt: skip

        return loss

    def finish(state: State) -> dict[str, float] | None:
        """Pictures, curves, measurements and the model of the stage that has just ended."""
        lift.draw_intrinsics(name)
        if lift.keep_models:
            model.save(lift.out / f"model-{name}.safetensors")
        return None if after_stage is None else after_stage(model, stage.number)

    first = [phase("label", collect=labeled)] if stage.from_prior and lift.unlabeled is not None else []
    return [
        *first,
        phase("explore", stage.n_explore, explore.explore_groups(model, stage.from_prior), explored),
        phase("rerender", collect=rerendered),
        phase("align", stage.n_latent + lift.schedule.align, align.align_groups(model), aligned),
        phase("project", collect=projected, report=show),
        phase(
            "exploit", lift.schedule.exploit, exploit.exploit_groups(model), exploited, report=finish,
            guard=lift.guard,
        ),
    ]  # fmt: skip


def after_stages(lift: Lift) -> list[Phase]:
    """What follows the last stage, where the schedule says so: E_v and E_l are calibrated, shading is learned
    at the views they tell, they are calibrated on the better shape again; shapes lean as outlines tell; at
    last E_w learns to project renders of the final fields.
    """
    schedule = lift.schedule
    kinds = [calibration] if schedule.calibrate else []
    if schedule.distill:
        kinds += [distillation, *kinds]
    if schedule.lean:
        kinds.append(leaning)
    if schedule.realign:
        kinds.append(realignment)
    numbered = enumerate(kinds, schedule.n_stages)  # goes on counting after the stages
    return [phase for number, kind in numbered for phase in kind(lift, number)]


def calibration(lift: Lift, number: int) -> list[Phase]:
    """E_v and E_l learn from re-renderings; not the first time, of distilled shapes."""
    model, schedule = lift.model, lift.schedule
    phase = partial(_phase, model, "calibration", number)

    def rerendered(state: State) -> dict[str, torch.Tensor]:
        n = calibrate.SHAPES_PER_SAMPLE * schedule.n_samples
        pseudo, clean = calibrate.rerender_unlabeled(
            model, lift.unlabeled, n, schedule.n_rerendered, state.rng, lift.observer, lift.ranks,
            lift.photographs, distilled=number > schedule.n_stages,
        )  # fmt: skip
        return named("pseudo", pseudo.tensors()) | named("unlabeled", clean.tensors(*LABELS))

    def calibrated(state: State) -> Step:
        images = calibrate.clean_images(lift.unlabeled, lift.photographs)
        pseudo, clean = Images(**state.of("pseudo")), replace(images, **state.of("unlabeled"))

        def loss(_: int) -> Losses:
            found = view_light_loss(lift.divided, pseudo, clean, state.rng)
            return {"total": found, "view_light": found}

        return loss

    return [
        phase("rerender", collect=rerendered),
        phase("calibrate", schedule.calibrate, calibrate.calibrate_groups(model), calibrated),
    ]


def distillation(lift: Lift, number: int) -> list[Phase]:
    """E_I and the fields learn the shading of unlabeled samples, and of photographs where there are some."""
    model, phase = lift.model, partial(_phase, lift.model, "distillation", number)
    sources = {"samples": lift.unlabeled, "photographs": lift.photographs}
    sources = {f"gallery of {name}": images for name, images in sources.items() if images is not None}

    def read(state: State) -> dict[str, torch.Tensor]:
        seed = int(torch.randint(2**31, (), generator=state.rng))

        def each() -> dict[str, torch.Tensor]:
            found, rng = {}, torch.Generator().manual_seed(seed)
            for name, images in sources.items():
                found |= named(name, distill.read(model, images.images, rng, lift.observer))
            return found

        return lift.ranks.first(each)

    def distilled(state: State) -> Step:
        galleries = [distill.gallery(images, state.of(name)) for name, images in sources.items()]
        return lambda _: distill.distill_loss(lift.divided, galleries, lift.perceptual, state.rng)

    return [
        phase("read", collect=read),
        phase(
            "distill", lift.schedule.distill, distill.distill_groups(model), distilled,
            report=lambda state: lift.draw_intrinsics("distilled"), guard=lift.guard,
        ),
    ]  # fmt: skip


def leaning(lift: Lift, number: int) -> list[Phase]:
    """The fields learn how far each shape leans, as the outlines of all unlabeled samples tell."""
    phase = partial(_phase, lift.model, "lean", number)

    def prepared(state: State) -> dict[str, torch.Tensor]:
        seed = int(torch.randint(2**31, (), generator=state.rng))

        def told() -> dict[str, torch.Tensor]:
            rng, outline = torch.Generator().manual_seed(seed), around_outline(lift.unlabeled.masks)
            return vars(lean.prepare(lift.model, lift.unlabeled, outline, rng, lift.observer))

        return named("lesson", lift.ranks.first(told))

    def learned(state: State) -> Step:
        lesson = lean.Lesson(**state.of("lesson"))
        return lambda _: lean.lean_loss(lift.divided, lesson, state.rng)

    return [
        phase("prepare", collect=prepared),
        phase(
            "lean", lift.schedule.lean, lean.lean_groups(lift.model), learned,
            report=lambda state: lift.draw_intrinsics("leaning"), guard=lift.guard,
        ),
    ]  # fmt: skip


def realignment(lift: Lift, number: int) -> list[Phase]:
    """E_w learns step 2 again, on renders of the final fields. E_v and E_l are to be trusted by now, so what
    they see in projections counts as much as pixels and features.
    """
    phase = partial(_phase, lift.model, "last alignment", number)

    def realigned(state: State) -> Step:
        pseudo, masked = Images(**state.of("pseudo")), lift.model.config.background is None
        return lambda _: lift.align_loss(state, pseudo, masked=masked, consistency=CONSISTENCY)

    return [
        phase(
            "rerender",
            collect=lambda state: lift.rerendered(state, lift.samples, one_shape=False, predict=True),
        ),
        phase("realign", lift.schedule.realign, align.align_groups(lift.model), realigned),
    ]


def _phase(
    model: LiftedGAN, title: str, number: int, kind: str, *arguments: object, **options: object
) -> Phase:
    """A phase of what is called ``title``."""
    where = {"stage": number, "phase": kind}
    return Phase(f"{title}, {kind}", kind, where, *arguments, cooldown=model.config.rates.cooldown, **options)
