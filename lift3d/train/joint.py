"""Joint pre-training: stages of explore -> rerender -> align -> project -> exploit (method.md, section 3).

A run directory holds ``state.safetensors`` (exact resume), ``stage-data.safetensors`` (the stage's pseudo
images and projections), ``log.jsonl``, ``curves-<phase>.png``, contact sheets per stage, and at the end
``model.safetensors``."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch

from lift3d.config.schema import Preset, Schedule
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.files.load import LoadedGan, fill, read_tensors, write_tensors
from lift3d.gan.published import check_gan
from lift3d.gan.stylegan2 import Discriminator
from lift3d.masks.sources import MaskSource, mask_source, with_masks
from lift3d.model import LiftedGAN
from lift3d.networks.perceptual import get_perceptual
from lift3d.observer import Observer, SilentObserver
from lift3d.pseudo_labels.labeler import PseudoLabels, label, new_labeler
from lift3d.train import figures, stages
from lift3d.train.data import Rerendered, SampleSet, draw_samples, project, rerender
from lift3d.train.runner import Group, Log, Losses, new_optimizer, optimize

FORMAT = "lift3d.pretraining/2"
STATE, STAGE_DATA, MODEL, LOG = (
    "state.safetensors",
    "stage-data.safetensors",
    "model.safetensors",
    "log.jsonl",
)
PHASES = ("explore", "rerender", "align", "project", "exploit")
UNLABELED_SEED = 500_000_000  # of the first of the samples in ``Preset.n_unlabeled``
PATCH_FEATURES = 3  # discriminator blocks of the perceptual distance on patches


@dataclass(frozen=True)
class Position:
    """Where a run stands: ``step`` steps of ``phase`` of ``stage`` are done."""

    stage: int = 0
    phase: str = PHASES[0]
    step: int = 0

    def next(self) -> "Position":
        """The start of the following phase."""
        i = PHASES.index(self.phase) + 1
        return Position(self.stage, PHASES[i]) if i < len(PHASES) else Position(self.stage + 1)


@dataclass
class Run:
    """A run and everything it needs to go on."""

    model: LiftedGAN
    discriminator: Discriminator
    schedule: Schedule
    out: Path
    observer: Observer
    rng: torch.Generator
    seed: int
    masks: MaskSource
    position: Position = Position()
    optimizer: torch.optim.Adam | None = None
    rerendered: Rerendered | None = None
    pseudo_labels: PseudoLabels | None = None
    checkpoint_every: int = 500  # steps


def check_run(preset: Preset, out: str | Path, resume: bool = False, overwrite: bool = False) -> Schedule:
    """The joint schedule of a run that may start in ``out``; ``ConfigError`` says why it may not."""
    out = Path(out)
    if preset.joint is None:
        raise ConfigError(
            f"{preset.name} has no joint pre-training (it is trained per instance): use lift3d finetune"
        )
    exists = (out / STATE).exists() or (out / MODEL).exists()
    if exists and not (resume or overwrite):
        raise ConfigError(
            f"{out} already holds a run: pass --resume to continue it or --overwrite to start anew"
        )
    if resume and not exists:
        raise ConfigError(f"{out} holds no run to resume: leave out --resume")
    return preset.joint


def pretrain(
    preset: Preset,
    gan: LoadedGan,
    out: str | Path,
    observer: Observer | None = None,
    resume: bool = False,
    overwrite: bool = False,
    seed: int = 0,
    checkpoint_every: int = 500,
    after_stage: Callable[[LiftedGAN, int], dict[str, float]] | None = None,
    device: torch.device | str = "cpu",
    masks: str | Path | None = None,
) -> LiftedGAN:
    """Lifts ``gan`` by the preset's joint schedule into ``out``; returns the model, which is also saved
    there.

    ``after_stage(model, stage)`` may return scalars for the log. ``masks``: see ``with_masks``. Raises
    ``ConfigError`` for a preset without joint schedule, a directory that holds a run (``resume``,
    ``overwrite``) and missing masks, and ``CheckpointError`` for a GAN that does not fit the preset or a
    foreign checkpoint."""
    out, observer = Path(out), observer or SilentObserver()
    schedule = check_run(preset, out, resume, overwrite)
    check_gan(preset, gan)
    if preset.masks == "files" and masks is None:
        observer.message(f"{preset.name}: no masks (--masks DIR or auto), so there is no mask loss")
    preset = with_masks(preset, masks)
    source = mask_source(preset, masks, out / "to-mask")
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    run = Run(
        LiftedGAN(preset, gan.generator).to(device),
        gan.discriminator.to(device),
        schedule,
        out,
        observer,
        torch.Generator().manual_seed(seed),
        seed,
        source,
        checkpoint_every=checkpoint_every,
    )
    unlabeled = None
    if preset.n_unlabeled:
        on_background = mask_source(replace(preset, masks="background"))
        unlabeled = draw_samples(run.model, preset.n_unlabeled, UNLABELED_SEED, on_background)
    if resume:
        load_state(run, unlabeled)
    else:
        for name in (STATE, STAGE_DATA, MODEL, LOG):
            (out / name).unlink(missing_ok=True)
        save_state(run)  # a run that waits for masks can be resumed
    samples = draw_samples(run.model, schedule.n_samples, 1_000_000 * (seed + 1), source)
    if unlabeled is not None and run.position.stage == 0:
        views, lights = new_labeler(run.model, unlabeled).label(samples.images, samples.masks)
        samples = replace(samples, views=views, lights=lights)
    perceptual = get_perceptual(
        "auto", lambda x: gan.discriminator.features(x, PATCH_FEATURES), observer=observer
    )
    perceptual = perceptual.to(device)
    log = Log(out / LOG)
    while run.position.stage < schedule.n_stages:
        position = run.position
        advance(run, samples, unlabeled, perceptual, log)
        run.position, run.optimizer = position.next(), None
        if run.position.phase == "exploit":
            figures.projections(
                run.model, samples, run.rerendered, out / f"stage-{position.stage}-projections.png"
            )
        if run.position.stage > position.stage:
            finish_stage(run, samples, log, after_stage)
        save_state(run)
    run.model.save(out / MODEL)
    return run.model


def finish_stage(
    run: Run,
    samples: SampleSet,
    log: Log,
    after_stage: Callable[[LiftedGAN, int], dict[str, float]] | None,
) -> None:
    """Pictures, curves, measurements and the model of the stage that has just ended."""
    stage = run.position.stage - 1
    figures.intrinsics(run.model, samples, run.out / f"stage-{stage}-intrinsics.png")
    figures.curves(run.out / LOG, run.out)
    if after_stage is not None:
        log.add(after_stage(run.model, stage))
        means = log.flush(stage=stage, phase="evaluation", step=0)
        run.observer.message(", ".join(f"{k} {v:.3f}" for k, v in means.items()))
    run.model.save(run.out / f"model-stage-{stage}.safetensors")


def advance(
    run: Run, samples: SampleSet, unlabeled: SampleSet | None, perceptual: torch.nn.Module, log: Log
) -> None:
    """Runs the current phase to its end."""
    model, schedule, stage, phase = run.model, run.schedule, run.position.stage, run.position.phase
    if phase == "rerender":
        run.rerendered = rerender(
            model, samples, schedule.n_rerendered, run.rng, run.observer, first=stage == 0
        )
        run.pseudo_labels = None
        return save_stage_data(run)
    if phase == "project":
        run.rerendered = project(model, samples, run.rerendered, run.observer, run.masks, stage)
        if unlabeled is not None:
            run.pseudo_labels = label(model, run.rerendered, unlabeled)
        return save_stage_data(run)
    steps = _steps(schedule, stage, phase)
    n_latent = schedule.latent if (stage, phase) == (0, "align") else 0

    def loss(step: int) -> Losses:
        model.open_bands.fill_(open_bands(schedule, stage, phase, step))
        if phase == "explore":
            return stages.explore_loss(model, samples, schedule, stage, run.rng)
        if phase == "align":
            if step < n_latent:
                return stages.latent_loss(model, unlabeled, run.rerendered, run.rng)
            return stages.align_loss(model, samples, run.rerendered, run.discriminator, stage, run.rng)
        return stages.exploit_loss(
            model, samples, run.rerendered, schedule, perceptual, stage, run.rng, run.pseudo_labels
        )

    def checkpoint(step: int) -> None:
        run.position = Position(stage, phase, step)
        save_state(run)

    groups = phase_groups(model, phase, stage)
    model.requires_grad_(False)
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    if run.optimizer is None:
        run.optimizer = new_optimizer(groups)
    where = {"stage": stage, "phase": phase}
    optimize(
        run.optimizer,
        loss,
        run.position.step,
        steps,
        run.observer,
        log,
        where,
        checkpoint,
        run.checkpoint_every,
        model.config.rates.cooldown,
    )
    model.requires_grad_(False)


def phase_groups(model: LiftedGAN, phase: str, stage: int) -> list[Group]:
    """What trains in a phase."""
    if phase == "explore":
        return stages.explore_groups(model, stage)
    return stages.align_groups(model) if phase == "align" else stages.exploit_groups(model)


def _steps(schedule: Schedule, stage: int, phase: str) -> int:
    if phase == "explore":
        return schedule.explore_first if stage == 0 else schedule.explore
    if phase == "align":
        return schedule.align + (schedule.latent if stage == 0 else 0)
    return schedule.exploit


def open_bands(schedule: Schedule, stage: int, phase: str, step: int) -> float:
    """Fraction of open encoding bands: from sigma_min to sigma_max over all steps of the fields (steps 1 and
    3).
    """
    per_stage = [_steps(schedule, s, "explore") + schedule.exploit for s in range(schedule.n_stages)]
    done = sum(per_stage[:stage])
    if phase == "explore":
        done += step
    else:
        done += _steps(schedule, stage, "explore") + (step if phase == "exploit" else 0)
    low, high = schedule.open_bands
    return low + (high - low) * done / max(1, sum(per_stage) - 1)


def save_state(run: Run) -> None:
    """Everything an exact resume needs, but for what the GAN and the stage data give again."""
    own = {k: v for k, v in run.model.state_dict().items() if not k.startswith("generator.")}
    tensors = {f"model.{k}": v for k, v in own.items()} | {"rng": run.rng.get_state()}
    if run.optimizer is not None:
        parameters = [p for g in run.optimizer.param_groups for p in g["params"]]
        for i, p in enumerate(parameters):
            for key, value in run.optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{i}.{key}"] = value
    about = {
        "format": FORMAT,
        "preset": run.model.config.to_json(),
        "seed": run.seed,
        "position": [run.position.stage, run.position.phase, run.position.step],
    }
    write_tensors(run.out / STATE, tensors, about)


def load_state(run: Run, unlabeled: SampleSet | None) -> None:
    """Continues from ``save_state``; raises ``ConfigError`` when preset or seed differ from the run's."""
    about, tensors = read_tensors(run.out / STATE)
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{run.out / STATE} has format {about.get('format')!r}, expected {FORMAT!r}")
    then, now = Preset.from_json(about["preset"]), run.model.config
    if then != now or about["seed"] != run.seed:
        names = (f.name for f in fields(Preset))
        differing = ", ".join(name for name in names if getattr(then, name) != getattr(now, name)) or "seed"
        raise ConfigError(
            f"{run.out} was started with other settings ({differing}): resume with the same ones or pass "
            "--overwrite"
        )
    generator = {f"model.{k}": v for k, v in run.model.state_dict().items() if k.startswith("generator.")}
    fill(run.model, tensors | generator, "model.", run.out / STATE)
    run.rng.set_state(tensors["rng"])
    run.position = Position(*about["position"])
    if run.position.stage < run.schedule.n_stages and run.position.phase in ("align", "project", "exploit"):
        load_stage_data(run, unlabeled)
    if run.position.step:
        run.optimizer = new_optimizer(phase_groups(run.model, run.position.phase, run.position.stage))
        parameters = [p for g in run.optimizer.param_groups for p in g["params"]]
        for i, p in enumerate(parameters):
            moments = {
                k: tensors[f"optimizer.{i}.{k}"].to("cpu" if k == "step" else p.device)
                for k in ("step", "exp_avg", "exp_avg_sq")
                if f"optimizer.{i}.{k}" in tensors
            }
            if moments:
                run.optimizer.state[p] = moments


READ = "pseudo_labels."  # what the names of their tensors start with


def save_stage_data(run: Run) -> None:
    """Pseudo images and projections of the stage, and what was read off them."""
    values = dict(vars(run.rerendered))
    if run.pseudo_labels is not None:
        values |= {READ + k: v for k, v in vars(run.pseudo_labels).items() if k != "unlabeled"}
    tensors = {
        k: v.to(torch.uint8) if v.dtype == torch.bool else v for k, v in values.items() if v is not None
    }
    write_tensors(run.out / STAGE_DATA, tensors, {"format": FORMAT, "stage": run.position.stage})


def load_stage_data(run: Run, unlabeled: SampleSet | None) -> None:
    """What ``save_stage_data`` wrote."""
    _, data = read_tensors(run.out / STAGE_DATA)
    found = {k.removeprefix(READ): v for k, v in data.items() if k.startswith(READ)}
    images = {k: v.bool() if "mask" in k else v for k, v in data.items() if not k.startswith(READ)}
    run.rerendered = Rerendered(**images)
    run.pseudo_labels = PseudoLabels(unlabeled=unlabeled, **found) if found else None
