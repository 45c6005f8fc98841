"""Presets against Tables 4 to 6 of the GAN2X supplement, typed off by hand."""

import re
from dataclasses import fields, replace

import pytest
import torch

from lift3d.config.presets import DEMO, PAPER, PRESETS, PROFILES, get_preset, with_size
from lift3d.config.schema import (
    BatchConfig,
    FieldConfig,
    LearningRates,
    LossWeights,
    Preset,
    Refinement,
    Schedule,
)
from lift3d.errors import ConfigError
from lift3d.networks.encoders import LightEncoder, ViewEncoder
from lift3d.networks.fields import SHININESS_RANGE
from lift3d.render.volume import SamplingConfig
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior
from lift3d.settings import described
from lift3d.synthetic.render import BACKGROUND, LIGHT_PRIOR, VIEW_PRIOR

TABLES = (
    FieldConfig, LossWeights, LearningRates, Schedule, Refinement, BatchConfig, SamplingConfig,
    ViewPrior, LightPrior,
)  # fmt: skip
PUBLISHED = ("celeba", "celeba-hq", "afhq-cat", "lsun-car")
FACES = PUBLISHED[:3]


def test_names_are_the_keys() -> None:
    assert tuple(PRESETS) == (*PUBLISHED, "ffhq", "ffhq-512", "demo", "tiny")
    assert all(preset.name == name for name, preset in PRESETS.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_table_4(name: str) -> None:
    preset = PAPER[name]
    assert SHININESS_RANGE == (4, 100)  # p
    assert preset.weights.beta == 3e-5
    assert preset.weights.view_light == 1.0  # lambda_vl
    assert preset.weights.features == 1.0  # lambda_d
    assert preset.weights.mask == 0.2  # lambda_m; the table has it for CelebA-HQ and cars only
    assert preset.masks == "auto"
    assert preset.rates.fields == 5e-4  # F_s and F_m
    assert preset.rates.material_explore == 2e-3  # F_m in step 1
    assert preset.rates.encoders == 2e-4  # all encoders


@pytest.mark.parametrize("name", PUBLISHED)
def test_architecture_and_other_numbers_of_section_1(name: str) -> None:
    preset = PAPER[name]
    assert (preset.shape.n_layers, preset.shape.n_hidden, preset.shape.n_frequencies) == (8, 256, 4)
    assert (preset.material.n_layers, preset.material.n_hidden, preset.material.n_frequencies) == (4, 256, 6)
    assert (preset.sampling.n_coarse, preset.sampling.n_fine, preset.sampling.keep_coarse) == (36, 36, True)
    assert (preset.batch.n_rays, preset.batch.patch) == (512, 32)
    assert (preset.weights.eikonal, preset.weights.perceptual) == (0.1, 0.1)
    assert (preset.n_code, preset.encoder_width) == (512, 1.0)  # Table 2
    assert preset.size == (128 if name == "celeba" else 256)


@pytest.mark.parametrize(
    ("name", "n", "m"), [("celeba", 1000, 32), ("celeba-hq", 200, 80), ("afhq-cat", 100, 160)]
)
def test_table_5_joint_pre_training(name: str, n: int, m: int) -> None:
    assert PAPER[name].joint == Schedule(
        size=PAPER[name].size,
        n_samples=n,
        n_rerendered=m,
        n_stages=5,
        explore_first=50_000,
        explore=30_000,
        align=8_000,
        exploit=50_000,
        open_bands=(0.3, 1.0),
        smooth_albedo=0.2,
        smooth_specular=0.1,
    )


@pytest.mark.parametrize(("name", "m"), [("celeba", 800), ("celeba-hq", 400), ("afhq-cat", 400)])
def test_table_5_instance_specific_fine_tuning(name: str, m: int) -> None:
    assert PAPER[name].instance == (
        Schedule(
            size=PAPER[name].size,
            n_samples=1,
            n_rerendered=m,
            n_stages=3,
            explore_first=6_000,
            explore=6_000,
            align=2_000,
            exploit=15_000,
            open_bands=(0.8, 1.0),
            smooth_albedo=0.2,
            smooth_specular=0.1,
        ),
    )


def test_table_6_has_no_joint_training_but_two_resolutions() -> None:
    car = PAPER["lsun-car"]
    assert car.joint is None
    assert car.instance == (
        Schedule(
            size=128,
            n_samples=1,
            n_rerendered=800,
            n_stages=4,
            explore_first=15_000,
            explore=10_000,
            align=4_000,
            exploit=25_000,
            open_bands=(0.3, 1.0),
            smooth_albedo=0.2,
            smooth_specular=0.1,
        ),
        Schedule(
            size=256,
            n_samples=1,
            n_rerendered=400,
            n_stages=3,
            explore_first=6_000,
            explore=6_000,
            align=2_000,
            exploit=15_000,
            open_bands=(0.8, 1.0),
            smooth_albedo=0.2,
            smooth_specular=0.1,
        ),
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_tables_5_and_6_shading_based_refinement(name: str) -> None:
    expected = Refinement(iterations=1_000, open_bands=(1.0, 1.0), smooth_albedo=0.5, smooth_specular=0.2)
    assert PAPER[name].refine == expected


def test_joint_pre_training_is_460_thousand_iterations() -> None:
    for name in FACES:
        s = PRESETS[name].joint
        assert s.explore_first + (s.n_stages - 1) * s.explore + s.n_stages * (s.align + s.exploit) == 460_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_added_to_the_tables(name: str) -> None:
    """The profile "paper" is the tables; the defaults differ in these settings and in no other."""
    ours, paper = PRESETS[name], get_preset(name, "paper")
    assert (ours.n_unlabeled, ours.transfer_residual) == (1024 if ours.joint else 0, True)
    assert (ours.weights.beta, ours.weights.consistency, ours.rates.cooldown) == (5e-4, 0.15, 0.4)
    assert (ours.batch.n_surface_pixels, ours.batch.jitter) == (2048, 0.0)
    weights = replace(ours.weights, beta=3e-5, consistency=0.0)
    batch = replace(ours.batch, n_surface_pixels=0)
    assert paper == replace(
        ours, n_unlabeled=0, transfer_residual=False, weights=weights, batch=batch,
        rates=replace(ours.rates, cooldown=0.0),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="demo is not of the paper, so it has no profile 'paper'; leave"):
        get_preset("demo", "paper")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_priors_are_within_reach_of_the_encoders(preset: Preset) -> None:
    generator = torch.Generator().manual_seed(0)
    views, lights = preset.view_prior.sample(500, generator), preset.light_prior.sample(500, generator)
    view_encoder = ViewEncoder(8, 0.01, pivot=preset.view_prior.pivot)
    light_encoder = LightEncoder(8, 0.01, preset.light_range, preset.negative_range)
    torch.testing.assert_close(view_encoder.from_tanh(view_encoder.to_tanh(views)), views)
    torch.testing.assert_close(light_encoder.from_tanh(light_encoder.to_tanh(lights)), lights)
    assert (lights[:, :2] > 0).all()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_sizes_fit_together(preset: Preset) -> None:
    assert max(preset.radii) <= 0.98
    for schedule in filter(None, (preset.joint, *preset.instance)):
        assert preset.batch.patch <= schedule.size <= preset.size
    assert preset.batch.n_rays >= preset.batch.n_images
    assert preset.masks in ("background", "auto")


def test_demo_lifts_what_its_gan_was_trained_on() -> None:
    assert (DEMO.view_prior, DEMO.light_prior, DEMO.background) == (VIEW_PRIOR, LIGHT_PRIOR, BACKGROUND)
    assert DEMO.masks == "background" and DEMO.weights.mask > 0


@pytest.mark.parametrize("name", PRESETS)
def test_quick_profile_is_nowhere_larger(name: str) -> None:
    quick, full = get_preset(name, "quick"), get_preset(name)
    assert get_preset(name) is full and quick.size <= 64
    numbers = {key: value for key, value, _ in described(full)}
    for key, value, _ in described(quick):
        if isinstance(value, int | float) and numbers[key] is not None:
            assert value <= numbers[key], key
    assert (quick.name, quick.radii, quick.view_prior) == (full.name, full.radii, full.view_prior)
    assert (quick.joint is None) == (full.joint is None) and len(quick.instance) == len(full.instance)
    if quick.joint is not None:
        assert quick.joint.n_stages == 2 and quick.joint.open_bands == full.joint.open_bands


@pytest.mark.parametrize("size", [8, 16, 64, 512])
@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_any_preset_at_any_size(preset: Preset, size: int) -> None:
    other = with_size(preset, size)
    assert other.size == size and (other.joint is None or other.joint.size == size)
    assert other.batch.patch <= min(s.size for s in (other.joint, *other.instance) if s is not None)
    assert with_size(preset, preset.size) == preset


def test_presets_are_validated_however_they_are_made() -> None:
    with pytest.raises(ConfigError, match="bars is 0.5, expected a number from 0 to 0.45"):
        replace(DEMO, bars=0.5)
    with pytest.raises(ConfigError, match="joint.size is 64, expected size, 128"):
        replace(DEMO, size=128)
    with pytest.raises(ConfigError, match=r"rates.fields is 0.0, expected a number from 1e-09 to 1"):
        replace(DEMO, rates=LearningRates(fields=0.0))
    with pytest.raises(ConfigError, match=r"instance\[0\].align is 0, expected a number from 1 to"):
        replace(DEMO, instance=(replace(DEMO.instance[0], align=0),))
    with pytest.raises(ConfigError, match="truncation is nan, expected a number from 0 to 1"):
        replace(DEMO, truncation=float("nan"))


@pytest.mark.parametrize("table", [*TABLES, Preset], ids=lambda table: table.__name__)
def test_every_setting_has_a_meaning_and_every_number_a_range(table: type) -> None:
    for f in fields(table):
        about = f.metadata.get("setting")
        if about is None:
            assert table is Preset and f.name not in ("name", "size", "license")
        elif f.type not in (str, bool):
            assert about.low is not None and about.high is not None and about.low < about.high, f.name
        assert about is None or about.doc


def test_unknown_names_get_the_list_of_known_ones() -> None:
    known = re.escape("'dogs', known are celeba, celeba-hq, afhq-cat, lsun-car, ffhq, ffhq-512, demo, tiny")
    with pytest.raises(ConfigError, match=f"unknown dataset {known}"):
        get_preset("dogs")
    with pytest.raises(ConfigError, match="unknown profile 'slow', known are full, quick, paper"):
        get_preset("demo", "slow")
    assert PROFILES == ("full", "quick", "paper")
