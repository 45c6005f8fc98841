"""Fine-tuning: the published schedules step by step, shrunk; resume; what stays as it was; refusals."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from interrupted import Stop, StopAfter
from published_toys import SMALL
from tiny_gan import PRESET, other_gan, tiny_gan

from lift3d.cli.main import main
from lift3d.config.presets import PRESETS, with_few_steps
from lift3d.config.schema import Preset, Refinement, Schedule
from lift3d.errors import CheckpointError, ConfigError
from lift3d.gan.files.load import save_gan
from lift3d.instance import Instances, load
from lift3d.model import LiftedGAN
from lift3d.train import align, exploit, explore
from lift3d.train import instance as module
from lift3d.train.data import samples_of
from lift3d.train.instance import finetune, refine_sample
from lift3d.train.runner import Runner

SCHEDULE = Schedule(16, 1, 3, 2, 3, 2, 2, 3, (0.8, 1.0), 0.2, 0.1, shape=1.0)
TOY = replace(
    PRESET, instance=(SCHEDULE,), refine=Refinement(iterations=20, n_pixels=16, material=2e-2, light=3e-2)
)
STEPS = {"n_rerendered": 2, "explore_first": 3, "explore": 2, "align": 1, "exploit": 2}


def shrunk(name: str) -> Preset:
    """A published preset at an eighth of its size, with few steps: stages, bands, rates and weights stay."""
    preset = PRESETS[name]
    schedules = tuple(replace(s, size=s.size // 8, **STEPS) for s in preset.instance)
    joint = None if preset.joint is None else replace(preset.joint, size=preset.size // 8)
    changes = SMALL | {"encoder_width": 1 / 16, "refine": replace(preset.refine, iterations=4)}
    return replace(preset, size=preset.size // 8, instance=schedules, joint=joint, **changes)


def saved(preset: Preset, gan: object, path: Path) -> LiftedGAN:
    """An untrained joint model from its file."""
    torch.manual_seed(1)
    LiftedGAN(preset, gan.generator).save(path)
    return load(path)


def images_of(size: int) -> object:
    return other_gan(channels=(8,) * (size.bit_length() - 2))


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> LiftedGAN:
    return saved(TOY, tiny_gan(), tmp_path_factory.mktemp("joint") / "joint.safetensors")


@pytest.fixture(scope="module")
def finished(joint: LiftedGAN, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Instances]:
    out = tmp_path_factory.mktemp("run") / "seven"
    return out, finetune(joint, tiny_gan(), out, 7, checkpoint_seconds=0.0)


@pytest.mark.parametrize("name", ["celeba", "celeba-hq", "afhq-cat", "lsun-car"])
def test_the_published_schedules_step_by_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = without_masks(shrunk(name))
    gan, runs = images_of(preset.size), []
    start = preset if preset.joint is None else saved(preset, gan, tmp_path / "joint.safetensors")
    spied = spy(monkeypatch, runs)
    finetune(start, gan, tmp_path / "out", 3)
    phases = spied[0]
    cars, schedules = name == "lsun-car", PRESETS[name].instance
    kinds = ["explore", "rerender", "align", "project", "exploit"]
    assert [p.kind for p in phases] == kinds * sum(s.n_stages for s in schedules)
    assert phases[0].title == f"stage 1 of {7 if cars else 3}, explore"
    assert [p.where["stage"] for p in phases[::5]] == list(range(7 if cars else 3))
    for stage, number in enumerate([i for s in schedules for i in range(s.n_stages)]):
        explore, _, align, _, exploit = phases[5 * stage : 5 * stage + 5]
        assert [p.n_steps for p in (explore, align, exploit)] == [3 if number == 0 else 2, 1, 2]
        assert [g.rate for g in explore.groups] == ([2e-3, 2e-4] if cars and stage == 0 else [2e-3])
        assert [g.rate for g in align.groups] == [2e-4]
        assert [g.rate for g in exploit.groups] == [5e-4, 2e-3, 2e-4]
    fields = [r for r in runs if r["kind"] != "align"]
    bands = np.array([r["open_bands"] for r in fields])
    sizes = [r["size"] for r in fields]
    at = 4 * 2 + 1 + 4 * 2  # steps of F_s and F_m at the lower resolution of cars
    for part, (low, high) in ((bands[-13:], (0.8, 1.0)),) + (((bands[:at], (0.3, 1.0)),) if cars else ()):
        np.testing.assert_allclose(part, np.linspace(low, high, len(part)), atol=1e-6)
    assert sizes == ([16] * at if cars else []) + [preset.size] * 13
    assert not any(r["mirror_shapes"] for r in runs if r["kind"] == "exploit")  # only joint training does
    from_prior = [r["from_prior"] for r in runs if r["kind"] == "explore"]
    assert from_prior == [cars and i < 3 for i in range(len(from_prior))]
    published = PRESETS[name].refine
    assert (published.iterations, published.open_bands) == (1000, (1.0, 1.0))
    assert (published.smooth_albedo, published.smooth_specular) == (0.5, 0.2)
    (refinement,) = spied[1]
    assert (refinement.kind, refinement.n_steps) == ("refine", 4)
    assert [g.rate for g in refinement.groups] == [5e-4, 5e-4, 1e-3, 1e-3, 3e-3]
    made = load(tmp_path / "out")
    assert made.config.size == preset.size and made.samples.seed.tolist() == [3]
    assert (tmp_path / "out" / "model.safetensors").exists() == cars


def without_masks(preset: Preset) -> Preset:
    """Everything counts as object."""
    return replace(preset, n_unlabeled=0, masks="none", weights=replace(preset.weights, mask=0.0))


def spy(monkeypatch: pytest.MonkeyPatch, runs: list[dict]) -> list[list]:
    """Records the phases of the next run, and what every step sees."""
    found, plain = [], Runner.run

    def run(self: Runner, phases: list) -> None:
        found.append(list(phases))
        plain(self, phases)

    def watch(kind: str, room: ModuleType) -> None:
        loss = getattr(room, f"{kind}_loss")

        def watched(model: LiftedGAN, *rest: object, **options: object) -> dict:
            runs.append(
                {"kind": kind, "open_bands": float(model.open_bands), "size": model.config.size} | options
            )
            return loss(model, *rest, **options)

        monkeypatch.setattr(room, f"{kind}_loss", watched)

    monkeypatch.setattr(Runner, "run", run)
    for kind, room in (("explore", explore), ("align", align), ("exploit", exploit)):
        watch(kind, room)
    return found


def test_the_joint_model_stays_and_its_copy_learns(
    joint: LiftedGAN, finished: tuple[Path, Instances]
) -> None:
    out, found = finished
    again = load(joint.source)
    assert all(torch.equal(t, again.state_dict()[k]) for k, t in joint.state_dict().items())
    member = found.members[0].state_dict()
    for name, tensor in joint.state_dict().items():
        moved = not torch.equal(member[name], tensor)
        frozen = name.startswith("generator.") or name in ("shape.radii", "gan_encoder.out.bias")
        assert moved != frozen or name == "open_bands", name
    for name in ("stage-0-projections.png", "stage-1-intrinsics.png", "curves-exploit.png", "log.jsonl"):
        assert (out / name).stat().st_size > 0
    assert not list(out.glob("model*"))
    assert '"shape": ' in (out / "log.jsonl").read_text()  # of the step on own images


def test_fine_tuning_ends_with_the_refinement_of_its_image(
    joint: LiftedGAN, finished: tuple[Path, Instances], tmp_path: Path
) -> None:
    _, found = finished
    plain = load(joint.source)
    plain.config = replace(TOY, refine=replace(TOY.refine, after_finetuning=False))
    stages = finetune(plain, tiny_gan(), tmp_path / "stages", 7)
    sample = stages.sample([0])
    masks = samples_of(stages, sample.w, torch.tensor([7])).masks
    refined = refine_sample(stages, sample, masks, TOY.refine, seed=7)
    assert torch.equal(refined.samples.light, found.samples.light)
    assert not torch.equal(stages.samples.light, found.samples.light)
    for name, tensor in refined.members[0].state_dict().items():
        assert torch.equal(tensor, found.members[0].state_dict()[name]), name


def test_the_file_is_the_returned_instance(joint: LiftedGAN, finished: tuple[Path, Instances]) -> None:
    out, found = finished
    again = load(out)
    assert torch.equal(again.samples.w, joint.sample([7]).w)
    assert torch.equal(again.samples.code, found.samples.code)
    for part in ("shape", "material", "gan_encoder"):
        ours = getattr(again.members[0], part).state_dict()
        for name, tensor in getattr(found.members[0], part).state_dict().items():
            torch.testing.assert_close(ours[name], tensor, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("reports", [1, 2, 4])
def test_a_resumed_run_is_the_uninterrupted_one(
    joint: LiftedGAN, finished: tuple[Path, Instances], tmp_path: Path, reports: int
) -> None:
    _, whole = finished
    with pytest.raises(Stop):
        finetune(joint, tiny_gan(), tmp_path, 7, observer=StopAfter(reports), checkpoint_seconds=0.0)
    with pytest.raises(ConfigError, match="started with other settings"):
        finetune(joint, tiny_gan(), tmp_path, 8, resume=True)
    found = finetune(joint, tiny_gan(), tmp_path, 7, resume=True, checkpoint_seconds=0.0)
    for name, tensor in whole.members[0].state_dict().items():
        assert torch.equal(found.members[0].state_dict()[name], tensor), name


def test_the_relative_term_of_e_w_is_left_out_without_a_joint_model(joint: LiftedGAN) -> None:
    images = joint.sample([1, 2]).image
    alone = LiftedGAN(replace(TOY, joint=None), tiny_gan().generator).requires_grad_(False)
    alone.load_state_dict(joint.state_dict())
    assert torch.equal(alone.offset(images, images), joint.offset(images, None))
    assert joint.offset(images, images).abs().max() == 0


def test_refining_an_instance_starts_from_it_and_belongs_to_the_same_model(
    joint: LiftedGAN, finished: tuple[Path, Instances], tmp_path: Path
) -> None:
    _, found = finished
    config = replace(
        joint.config.refine, iterations=2, n_pixels=16, fields=0.0, code=0.0, view=0.0, light=0.0
    )
    sample = found.sample([0])
    masks = torch.ones(1, 16, 16, dtype=torch.bool)
    refined = refine_sample(found, sample, masks, config)
    for name in ("code", "view", "light", "w"):
        assert torch.equal(getattr(refined.samples, name), getattr(found.samples, name))
    for name, tensor in found.members[0].shape.state_dict().items():
        assert torch.equal(refined.members[0].shape.state_dict()[name], tensor)
    refined.save(tmp_path / "again.lift")
    assert load(tmp_path / "again.lift").bases[0].source == joint.source


def test_refusals(joint: LiftedGAN, finished: tuple[Path, Instances], tmp_path: Path) -> None:
    out, _ = finished
    with pytest.raises(ConfigError, match="already holds a run: pass --resume"):
        finetune(joint, tiny_gan(), out)
    with pytest.raises(ConfigError, match="tiny has no schedule per instance: add an"):
        finetune(PRESET, tiny_gan(), tmp_path)
    with pytest.raises(CheckpointError, match="tiny is not the GAN that the model was lifted from"):
        finetune(joint, tiny_gan(seed=3), tmp_path)


def test_from_the_command_line(joint: LiftedGAN, tmp_path: Path) -> None:
    gan = tiny_gan()
    save_gan(tmp_path / "gan.safetensors", gan.generator, gan.discriminator)
    np.save(tmp_path / "w.npy", joint.sample([4]).w.numpy())

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        return result.output if result.exit_code == 0 else f"exit {result.exit_code}: {result.output}"

    start = "finetune", "--model", joint.source, "--gan", tmp_path / "gan.safetensors", "--device", "cpu"
    assert "instance.lift: done" in run(*start, "--latent", tmp_path / "w.npy", "--out", tmp_path / "four")
    assert torch.equal(load(tmp_path / "four").samples.w, joint.sample([4]).w)
    np.save(tmp_path / "two.npy", np.zeros((2, 16)))
    said = run(*start, "--latent", tmp_path / "two.npy", "--out", tmp_path / "five")
    assert "holds 2 latents w, expected one w" in said
    np.save(tmp_path / "short.npy", np.zeros((1, 3)))
    said = run(*start, "--latent", tmp_path / "short.npy", "--out", tmp_path / "five")
    assert "latents w have 3 numbers, expected 16" in said
    assert "n_stages = 2" in run(*start, "--profile", "quick", "--out", tmp_path / "five", "--dry-run")
    said = run(*start, "--dataset", "demo", "--out", tmp_path / "five")
    assert "exit 1" in said and "are two beginnings; give one of them" in said
    assert "profile is 'slow', but a model has its preset: expected full or quick" in run(
        *start, "--profile", "slow", "--out", tmp_path / "five"
    )
    start = "finetune", "--model", tmp_path / "four", "--out", tmp_path / "five"
    assert "is an instance already; `lift3d refine` goes on with it" in run(*start)
    said = run("refine", "--model", tmp_path / "four", "--steps", 2, "--out", tmp_path / "six")
    assert "instance.lift: done" in said and len(load(tmp_path / "six").members) == 1
    assert "refine.iterations is 0" in run("refine", "--steps", 0, "--out", tmp_path / "seven")


def test_quick_keeps_the_networks(joint: LiftedGAN) -> None:
    quick = with_few_steps(PRESETS["celeba"])
    assert (quick.shape, quick.size, quick.n_code) == (
        PRESETS["celeba"].shape,
        PRESETS["celeba"].size,
        PRESETS["celeba"].n_code,
    )
    assert quick.instance[0].exploit < PRESETS["celeba"].instance[0].exploit
    assert module.check_instance_run(quick, "nowhere") is None
