"""Presets as data. The published ones hold the numbers of Tables 4 to 6 of the GAN2X supplement, with what
helped elsewhere added (``_helped``; profile "paper" leaves it out); ``demo`` and ``tiny`` are ours.

View and light priors and radii are not published as numbers: ours are a reading (docs/method.md), for faces
with deviations of pitch, yaw, roll of 0.15, 0.3, 0.05 rad.
"""

from dataclasses import replace
from typing import TypeVar

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
from lift3d.render.volume import SamplingConfig
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior

Config = TypeVar("Config")

FACE_VIEWS = ViewPrior(  # aligned by the eyes and the mouth, in front of the head's center
    std=(0.15, 0.3, 0.05, 0.0, 0.0, 0.0), pivot=(0.0, 0.0, 0.5)
)
CAR_VIEWS = ViewPrior(
    mean=(0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    std=(0.08, 0.7, 0.02, 0.0, 0.0, 0.0),
    limit=(0.3, 1.0, 0.1, 0.0, 0.0, 0.0),
)
LIGHTS = LightPrior()
MASKED = LossWeights(mask=0.2)  # Table 4 has masks for CelebA-HQ and cars; without any, shapes vanish


def _joint(size: int, n_samples: int, n_rerendered: int) -> Schedule:
    """Joint pre-training of Table 5."""
    return Schedule(
        size, n_samples, n_rerendered, n_stages=5,
        explore_first=50_000, explore=30_000, align=8_000, exploit=50_000,
        open_bands=(0.3, 1.0), smooth_albedo=0.2, smooth_specular=0.1,
    )  # fmt: skip


def _instance(size: int, n_rerendered: int) -> Schedule:
    """Instance-specific fine-tuning of Table 5, which is also the second one of Table 6."""
    return Schedule(
        size, 1, n_rerendered, n_stages=3,
        explore_first=6_000, explore=6_000, align=2_000, exploit=15_000,
        open_bands=(0.8, 1.0), smooth_albedo=0.2, smooth_specular=0.1,
    )  # fmt: skip


_CAR_128 = Schedule(
    128, 1, 800, n_stages=4,
    explore_first=15_000, explore=10_000, align=4_000, exploit=25_000,
    open_bands=(0.3, 1.0), smooth_albedo=0.2, smooth_specular=0.1,
)  # fmt: skip

CELEBA = Preset(
    "celeba", 128, (0.6, 0.75, 0.6), FACE_VIEWS, LIGHTS, _joint(128, 1000, 32), (_instance(128, 800),),
    masks="auto", mask_reach=1.1, weights=MASKED,
)  # fmt: skip
CELEBA_HQ = Preset(
    "celeba-hq", 256, (0.6, 0.75, 0.6), FACE_VIEWS, LIGHTS, _joint(256, 200, 80), (_instance(256, 400),),
    masks="auto", mask_reach=1.1, weights=MASKED,
)  # fmt: skip
AFHQ_CAT = Preset(
    "afhq-cat", 256, (0.65, 0.65, 0.6), FACE_VIEWS, LIGHTS, _joint(256, 100, 160), (_instance(256, 400),),
    masks="auto", weights=MASKED,
)  # fmt: skip
LSUN_CAR = Preset(
    "lsun-car", 256, (0.5, 0.35, 0.9), CAR_VIEWS, LIGHTS, None, (_CAR_128, _instance(256, 400)),
    masks="auto", bars=0.125, weights=MASKED,
)  # fmt: skip
# Ours: GANs of FFHQ by the numbers of CelebA-HQ, whose faces are aligned alike.
FFHQ = replace(CELEBA_HQ, name="ffhq")
FFHQ_512 = replace(CELEBA_HQ, name="ffhq-512")  # a GAN of 512 pixels, lifted at 256

DEMO = Preset(
    "demo", 64, (0.50, 0.74, 0.62),
    ViewPrior(std=(0.13, 0.35, 0.04, 0.0, 0.0, 0.0), limit=(0.4, 0.9, 0.1, 0.0, 0.0, 0.0)),
    LightPrior(l_y=(-0.3, 0.9)),
    Schedule(64, 400, 8, 3, 1_000, 300, 1_200, 1_800, (0.3, 0.94), 1.0, 0.1,
        latent=1_500, calibrate=4_000, distill=17_000, lean=800, realign=1_600,
    ),
    (Schedule(64, 1, 100, 1, 100, 100, 100, 600, (0.94, 0.94), 1.0, 0.1, shape=3.0),),
    Refinement(150, (0.94, 0.94), smooth_albedo=1.0, beta=5e-4, fields=1e-3, material=1e-3),
    shape=FieldConfig(128, 4, 4, beta=5.0), material=FieldConfig(128, 3, 6), encoder_width=0.25,
    background=1.0, transfer_residual=True, n_unlabeled=4096, masks="background",
    weights=LossWeights(mask=0.2, consistency=0.15, beta=5e-4),
    rates=LearningRates(fields=1e-3, material_explore=2e-3, encoders=5e-4, gan_encoder=1e-3, cooldown=0.4),
    sampling=SamplingConfig(24, 12, False), view_range=(0.5, 1.05, 0.3), truncation=0.9,
    batch=BatchConfig(16, 512, 16, 2048, n_view_light=64, jitter=0.12, p_original=0.3, n_surface_pixels=2048),
    license="CC0-1.0 (images and weights made from MakeHuman/MPFB2 CC0 data)",
)  # fmt: skip

TINY = replace(
    DEMO,
    name="tiny",
    n_unlabeled=64,
    joint=Schedule(
        64, 8, 3, 2, 6, 4, 4, 6, (0.3, 1.0), 0.2, 0.1, latent=3, calibrate=4, distill=4, lean=4, realign=4
    ),
    shape=FieldConfig(16, 2, 4),
    material=FieldConfig(16, 2, 6),
    encoder_width=0.0625,
    sampling=SamplingConfig(8, 6, False),
    batch=BatchConfig(4, 64, 8, 256, 4, n_surface_pixels=64),
)


def _helped(preset: Preset) -> Preset:
    """A published preset with what helped on heads whose truth is known and on real faces (docs/method.md):
    where many objects are lifted together, registration of unlabeled samples finds their views.
    """
    return replace(
        preset,
        n_unlabeled=0 if preset.joint is None else 1024,
        transfer_residual=True,
        weights=replace(preset.weights, beta=5e-4, consistency=0.15),
        rates=replace(preset.rates, cooldown=0.4),
        batch=replace(preset.batch, n_surface_pixels=2048),
    )


PAPER = {  # as published, but for masks
    p.name: p for p in (CELEBA, CELEBA_HQ, AFHQ_CAT, LSUN_CAR, FFHQ, FFHQ_512)
}
PRESETS = {name: _helped(p) for name, p in PAPER.items()} | {p.name: p for p in (DEMO, TINY)}

PROFILES = ("full", "quick", "paper")
QUICK_SIZE = 64  # pixels; with these, any preset is through in three minutes on two cores
QUICK_RATE = 5e-5  # of the fields: so few steps would take a surface away before its images hold it
QUICK_STEPS = {
    "n_samples": 16, "n_rerendered": 4, "n_stages": 2,
    "explore_first": 40, "explore": 20, "align": 20, "exploit": 24, "latent": 20, "calibrate": 20,
    "distill": 20, "lean": 20, "realign": 20,
}  # fmt: skip
QUICK_BATCH = {
    "n_images": 8, "n_rays": 256, "patch": 16, "n_surface": 2048, "n_align": 4, "n_latent": 8,
    "n_view_light": 8, "n_surface_pixels": 256,
}  # fmt: skip


def get_preset(name: str, profile: str = "full") -> Preset:
    """The preset called ``name``; profile "quick" shrinks it to a toy run through every step, "paper" is the
    published one without what was added. ``ConfigError`` lists the known names.
    """
    if name not in PRESETS:
        raise ConfigError(f"unknown dataset {name!r}, known are {', '.join(PRESETS)}")
    if profile != "paper":
        return with_profile(PRESETS[name], profile)
    if name not in PAPER:
        raise ConfigError(f"{name} is not of the paper, so it has no profile 'paper'; leave the profile out")
    return PAPER[name]


def with_profile(preset: Preset, profile: str) -> Preset:
    """The preset as ``get_preset`` shrinks it: pixels, networks, batches and schedules."""
    if profile == "full":
        return preset
    if profile != "quick":
        raise ConfigError(f"unknown profile {profile!r}, known are {', '.join(PROFILES)}")
    small = with_few_steps(with_size(preset, min(preset.size, QUICK_SIZE)))
    return replace(
        small,
        shape=_at_most(small.shape, n_hidden=64, n_layers=4, beta=5.0),
        material=_at_most(small.material, n_hidden=64, n_layers=3),
        n_code=min(small.n_code, 128),
        encoder_width=min(small.encoder_width, 0.125),
        n_unlabeled=min(small.n_unlabeled, 256),
        rates=_at_most(small.rates, fields=QUICK_RATE),
        sampling=replace(_at_most(small.sampling, n_coarse=16, n_fine=8), keep_coarse=False),
    )


def with_few_steps(preset: Preset) -> Preset:
    """The preset with the schedules and batches of profile "quick", its networks as they are."""
    return replace(
        preset,
        joint=None if preset.joint is None else _at_most(preset.joint, **QUICK_STEPS),
        instance=tuple(_at_most(schedule, **QUICK_STEPS) for schedule in preset.instance),
        refine=_at_most(preset.refine, iterations=100),
        batch=_at_most(preset.batch, **QUICK_BATCH),
    )


def with_size(preset: Preset, size: int) -> Preset:
    """The preset at another working size: schedules of its size follow, larger ones and patches shrink."""

    def resized(schedule: Schedule) -> Schedule:
        own = schedule.size == preset.size
        return replace(schedule, size=size if own else min(schedule.size, size))

    joint = None if preset.joint is None else resized(preset.joint)
    instance = tuple(map(resized, preset.instance))
    patch = min(preset.batch.patch, size, *(s.size for s in (joint, *instance) if s is not None))
    batch = replace(preset.batch, patch=patch)
    return replace(preset, size=size, joint=joint, instance=instance, batch=batch)


def _at_most(config: Config, **limits: int | float) -> Config:
    """A table whose numbers are at most these."""
    return replace(config, **{name: min(getattr(config, name), limit) for name, limit in limits.items()})
