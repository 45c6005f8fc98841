"""The ablations change what they say, at toy size, and finished runs are not run again."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_gan import PRESET, tiny_gan

from lift3d.checkpoint import read_tensors
from lift3d.model import LiftedGAN, load
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.images import to_float
from lift3d.seeds import UNLABELED_SEED
from lift3d.synthetic.render import render_head
from lift3d.train.data import draw_samples
from lift3d.train.joint import pretrain
from lift3d.train.runner import COLLECTED

PATH = Path(__file__).parents[1] / "benchmarks" / "ablations.py"
spec = importlib.util.spec_from_file_location("ablations", PATH)
ablations = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ablations)

ONE_STAGE = replace(
    PRESET,
    view_prior=ViewPrior(std=(0.06, 0.06, 0.02, 0.0, 0.0, 0.0), limit=(0.1, 0.1, 0.05, 0.0, 0.0, 0.0)),
    joint=replace(PRESET.joint, n_stages=1, calibrate=0, distill=0, lean=0, realign=0),
)


@pytest.fixture
def lift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def lift(name: str, preset=ONE_STAGE) -> tuple[LiftedGAN, dict[str, torch.Tensor]]:
        """The model of an ablation, and what its phases handed on."""
        ablation = ablations.ABLATIONS[name]
        with monkeypatch.context() as patch:
            for function, other in ablation.instead.items():
                patch.setattr(function, other)
            model = pretrain(ablation.change(preset), tiny_gan(), tmp_path)
        return model, read_tensors(tmp_path / COLLECTED)[1]

    return lift


def test_settings_of_every_ablation() -> None:
    """Each differs from the base in what it names, and spends as many steps where others take over."""
    changed = {name: a.change(ablations.BUDGET) for name, a in ablations.ABLATIONS.items()}
    joint = {name: preset.joint for name, preset in changed.items()}
    same = [
        name for name, a in ablations.ABLATIONS.items() if changed[name] == ablations.BUDGET and not a.instead
    ]
    assert same == ["base"]

    def steps(name: str) -> int:
        s = joint[name]
        stages = s.explore_first + (s.n_stages - 1) * s.explore + s.n_stages * (s.align + s.exploit)
        return stages + s.latent + s.calibrate + s.distill

    for name in ("one stage", "no unlabeled samples", "no distillation"):
        assert abs(steps(name) - steps("base")) <= 6
    assert joint["one stage"].n_stages == 1
    assert changed["no unlabeled samples"].n_unlabeled == 0
    assert changed["no residual transfer"].transfer_residual is False
    assert changed["no view and light loss"].weights.view_light == 0
    assert joint["all bands open"].open_bands == (0.94, 0.94)
    assert joint["no chromaticity smoothness"].smooth_albedo == 0


def test_no_stage_is_symmetric() -> None:
    assert [s.symmetric for s in ablations.stages(PRESET, [PRESET.joint])] == [True, False]
    assert not any(s.symmetric for s in ablations.asymmetric(PRESET, [PRESET.joint]))


def test_nothing_reflects_specularly(lift) -> None:
    model, _ = lift("no specular reflection")
    code = model.sample([1]).code[0]
    mesh = model.evaluate_material(model.geometry(code, 16), code, shown=False)
    assert mesh.specular.max() < 1e-6 and mesh.albedo.std() > 0


def test_projections_are_what_was_rendered(lift) -> None:
    _, collected = lift("no projections")
    assert torch.equal(collected["projected.images"], collected["pseudo.images"])
    assert torch.equal(collected["projected.masks"], collected["pseudo.masks"])


@pytest.mark.parametrize(
    ("name", "kind", "other"), [("no registration", "views", "lights"), ("no Retinex", "lights", "views")]
)
def test_labels_are_requested_or_predicted(lift, name: str, kind: str, other: str) -> None:
    _, collected = lift(name)
    prior = getattr(PRESET, f"{kind[:-1]}_prior").mean
    mean = torch.as_tensor(prior() if callable(prior) else prior)
    assert torch.equal(collected[f"own.{kind}"], mean.expand(4, -1))
    assert collected[f"own.{other}"].std(0).max() > 0
    assert torch.equal(collected[f"projected.{kind}"], collected[f"pseudo.{kind}"])
    assert not torch.equal(collected[f"projected.{other}"], collected[f"pseudo.{other}"])


def test_labels_of_clean_samples_are_predicted() -> None:
    torch.manual_seed(0)
    model = LiftedGAN(ONE_STAGE, tiny_gan().generator)
    clean = draw_samples(model, 12, UNLABELED_SEED)
    guessing = ablations.ABLATIONS["no registration"].instead["lift3d.train.calibrate.new_labeler"]
    views, lights = guessing(model, clean.images, clean.masks).label(clean.images, clean.masks)
    known = ablations.new_labeler(model, clean.images, clean.masks).label(clean.images, clean.masks)
    with torch.no_grad():
        assert torch.allclose(views, model.view_encoder(to_float(clean.images)), atol=1e-6)
    assert torch.equal(lights, known[1]) and not torch.equal(views, known[0])


def test_finished_runs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = render_head("benchmark", 0, 64)
    folder = tmp_path / "no-unlabeled-samples-0"
    row = ablations.run("no unlabeled samples", ONE_STAGE, tiny_gan(), folder, 0, heads)
    assert set(row) == set(ablations.COLUMNS) and load(folder).config.n_unlabeled == 0
    (folder / "result.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr("lift3d.train.runner.Runner._train", None)  # the run itself is over, too
        assert ablations.run("no unlabeled samples", ONE_STAGE, tiny_gan(), folder, 0, heads) == row
        patch.setattr(ablations, "pretrain", None)
        assert ablations.run("no unlabeled samples", ONE_STAGE, tiny_gan(), folder, 0, heads) == row
    picture = ablations.sheet(tmp_path, heads[:2], 32)
    assert picture.shape[0] == 3 * 64 + 4 * 4 and picture.shape[1] > 2 * 64  # image, truth, the one model
    assert picture[-32, -36].std() > 10 and (picture[-1] == 255).all()
    (tmp_path / "no-unlabeled-samples-1").mkdir()
    other = {**row, "mad_deg": row["mad_deg"] + 1}
    (tmp_path / "no-unlabeled-samples-1" / "result.json").write_text(json.dumps(other))
    lines = ablations.table(tmp_path).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| no unlabeled samples | 2 |")
    assert (
        f"| {row['mad_deg'] + 0.5:.1f} ± 0.5 |" in lines[2] and f"| {row['albedo']:.3f} ± 0.000 |" in lines[2]
    )


def test_readable_twins_take_the_same_steps(lift) -> None:
    """Every fast step is replaced, or the patches would name what is not there; none ruins the run."""
    model, collected = lift("readable twins")
    assert all(x.isfinite().all() for x in model.state_dict().values() if x.is_floating_point())
    assert collected["projected.images"].dtype == torch.uint8
