"""Configuration as frozen dataclasses; values live in presets.py. JSON round trip in which unknown keys fail.
Ranges, units and meanings stand beside the fields (settings.py).

Letters in comments are the symbols of the GAN2X supplement (Tables 4 to 6).
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass

from lift3d.errors import ConfigError
from lift3d.networks.encoders import TRANSLATION_RANGE
from lift3d.render.volume import SamplingConfig
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior
from lift3d.seeds import BLOCK
from lift3d.settings import REQUIRED, check, setting, shown

MASKS = ("none", "background", "files", "auto")
RETIRED = ("edges", "seen", "unseen")  # settings of refinement in files of before its robust loss
TOLERANCE = 2e-4  # of priors against what the encoders reach: numbers are written with four decimals


@dataclass(frozen=True)
class FieldConfig:
    """Size of F_s or F_m."""

    n_hidden: int = setting(256, 1, 4096, "channels of a hidden layer")
    n_layers: int = setting(8, 1, 64, "hidden layers")
    n_frequencies: int = setting(4, 1, 16, "bands of the positional encoding")
    beta: float = setting(
        100.0, 1e-3, 1e6, "how sharply F_s bends: beta of its softplus, 100 in NeuS; small nets want less"
    )


@dataclass(frozen=True)
class LossWeights:
    """Weights of step 2 and step 3 (Table 4 and section 1 of the supplement)."""

    view_light: float = setting(1.0, 0, 1e9, "view and light of pseudo images, lambda_vl")
    features: float = setting(1.0, 0, 1e9, "discriminator features in step 2, lambda_d")
    mask: float = setting(0.0, 0, 1e9, "silhouette, lambda_m: 0.2 where masks are used")
    eikonal: float = setting(0.1, 0, 1e9, "(|grad F_s| - 1)^2 in step 3")
    perceptual: float = setting(0.1, 0, 1e9, "perceptual distance of the patches of step 3")
    offset: float = setting(0.01, 0, 1e9, "mean square of the latent offset in step 2")
    consistency: float = setting(
        0.0, 0, 1e9, "step 2 after the first stage: projections show the requested view and light"
    )
    beta: float = setting(3e-5, 0, 1e9, "scale of the chromaticity-based smoothness")


@dataclass(frozen=True)
class LearningRates:
    """Adam (Table 4)."""

    fields: float = setting(5e-4, 1e-9, 1.0, "F_s and F_m")
    material_explore: float = setting(2e-3, 1e-9, 1.0, "F_m in step 1")
    encoders: float = setting(2e-4, 1e-9, 1.0, "E_v, E_l, E_I")
    gan_encoder: float = setting(2e-4, 1e-9, 1.0, "E_w")
    cooldown: float = setting(0.0, 0, 1, "last fraction of each step, in which the rates fall linearly to 0")


@dataclass(frozen=True)
class Schedule:
    """One run of explore -> align -> exploit stages (Tables 5 and 6)."""

    size: int = setting(REQUIRED, 8, 1024, "working size", "pixels")
    n_samples: int = setting(REQUIRED, 1, BLOCK, "GAN samples that are lifted together")
    n_rerendered: int = setting(REQUIRED, 1, 100_000, "pseudo images per sample and stage, m")
    n_stages: int = setting(REQUIRED, 1, 1000, "how often explore -> align -> exploit is repeated")
    explore_first: int = setting(REQUIRED, 1, 10**9, "iterations of step 1 in the first stage")
    explore: int = setting(REQUIRED, 1, 10**9, "iterations of step 1 in the other stages")
    align: int = setting(REQUIRED, 1, 10**9, "iterations of step 2")
    exploit: int = setting(REQUIRED, 1, 10**9, "iterations of step 3")
    open_bands: tuple[float, float] = setting(
        REQUIRED, 0, 1, "fraction of open encoding bands, at the start and the end of the schedule"
    )
    smooth_albedo: float = setting(REQUIRED, 0, 1e9, "smoothness of the albedo, lambda_reg1")
    smooth_specular: float = setting(REQUIRED, 0, 1e9, "smoothness of the specular intensity, lambda_reg2")
    latent: int = setting(
        0, 0, 10**9, "iterations of step 2 before the first stage's others, on the unlabeled samples"
    )
    calibrate: int = setting(
        0, 0, 10**9, "iterations after the last stage, of E_v and E_l on renders of unlabeled samples"
    )
    distill: int = setting(
        0, 0, 10**9, "iterations after that, of E_I and the fields on the shading of unlabeled samples"
    )
    lean: int = setting(0, 0, 10**9, "iterations after that, of the fields on how far each shape leans")
    realign: int = setting(0, 0, 10**9, "iterations of step 2 at the end, on renders of the final fields")
    shape: float = setting(
        0.0, 0, 1e9, "robust loss of the albedo that the samples' own images imply, for F_s in step 3"
    )


@dataclass(frozen=True)
class Refinement:
    """Shading-based refinement of one image. The first four settings are published (Tables 5 and 6), the
    others are ours; weights are relative to the L1 distance of colors.
    """

    iterations: int = setting(1000, 1, 10**9, "on the one target image, at most")
    open_bands: tuple[float, float] = setting(
        (1.0, 1.0), 0, 1, "fraction of open encoding bands, at the start and the end"
    )
    shape: float = setting(3.0, 0, 1e9, "robust loss of the albedo that the image implies, for F_s")
    highlights: float = setting(3.0, 0, 1e9, "specular radiance against what colors show of it")
    smooth_albedo: float = setting(0.5, 0, 1e9, "smoothness of the albedo between neighbors, lambda_reg1")
    smooth_specular: float = setting(0.2, 0, 1e9, "smoothness of the specular intensity, lambda_reg2")
    smooth_far: float = setting(0.5, 0, 1e9, "smoothness of the albedo between any two pixels")
    beta: float = setting(3e-5, 0, 1e9, "scale of the chromaticity-based smoothness")
    n_pixels: int = setting(512, 2, 10**7, "pixels of an image in a step")
    fields: float = setting(5e-4, 0, 1.0, "learning rate of F_s")
    material: float = setting(5e-4, 0, 1.0, "learning rate of F_m")
    code: float = setting(1e-3, 0, 1.0, "learning rate of the code")
    view: float = setting(1e-3, 0, 1.0, "learning rate of the view")
    light: float = setting(3e-3, 0, 1.0, "learning rate of the light")
    cooldown: float = setting(0.5, 0, 1, "last fraction of the steps, in which the rates fall linearly to 0")
    eikonal: float = setting(0.1, 0, 1e9, "(|grad F_s| - 1)^2")
    outline: float = setting(0.2, 0, 1e9, "silhouette around the outline, lambda_m")
    hold_seen: float = setting(
        1.0, 0, 1e9, "distance from the surface it starts from, where the camera sees it"
    )
    hold_unseen: float = setting(4.0, 0, 1e9, "and where it does not")
    hold_view: float = setting(1.0, 0, 1e9, "squared distance from the view it starts from")
    hold_light: float = setting(0.1, 0, 1e9, "squared distance from the light it starts from")
    patience: int = setting(
        60, 1, 10**9, "iterations without gain on pixels that are held out, after which it stops"
    )
    after_finetuning: bool = setting(True, None, None, "fine-tuning ends with it, on the sample's own image")


@dataclass(frozen=True)
class BatchConfig:
    """What one iteration looks at."""

    n_images: int = setting(8, 1, 10**6, "images that share the random pixels of a step-3 iteration")
    n_rays: int = setting(512, 1, 10**7, "random pixels, all images together")
    patch: int = setting(
        32, 1, 1024, "side of the patch that replaces them on every other iteration, on average", "pixels"
    )
    n_surface: int = setting(4096, 1, 10**7, "pixels of a step-1 iteration, where a pixel costs one point")
    n_align: int = setting(16, 1, 10**6, "images of a step-2 iteration")
    n_latent: int = setting(32, 1, 10**6, "pairs of GAN samples of a step-2 iteration of the kind latent")
    n_view_light: int = setting(
        8, 1, 10**6, "projections of a step-3 iteration whose view and light E_v and E_l must name"
    )
    jitter: float = setting(
        0.0, 0, 1, "by which share the images that teach E_v and E_l are stretched, moved and slanted"
    )
    p_original: float | None = setting(
        None, 0, 1, "probability of a sample's own image in step 3; not given: that of one projection"
    )
    n_surface_pixels: int = setting(
        0, 0, 10**7, "pixels of a step-3 iteration that cost one point each, beside the rays"
    )


@dataclass(frozen=True, repr=False)
class Preset:
    """Everything that defines a lifted GAN and its training. However it was made, ``ConfigError`` refuses
    settings that are out of range or do not fit together.
    """

    name: str = setting(REQUIRED, None, None, "what --dataset calls it")
    size: int = setting(REQUIRED, 8, 1024, "working size of encoders and training, a power of 2", "pixels")
    radii: tuple[float, float, float] = setting(
        REQUIRED, 0.05, 0.98, "half-axes x, y, z of the ellipsoid that exploration starts from", "world units"
    )
    view_prior: ViewPrior  # of the re-rendered views
    light_prior: LightPrior  # of the re-rendered lights
    joint: Schedule | None  # None: this category is only trained per instance
    instance: tuple[Schedule, ...]  # instance-specific fine-tuning, one after the other
    refine: Refinement = Refinement()
    shape: FieldConfig = FieldConfig(256, 8, 4)  # F_s
    material: FieldConfig = FieldConfig(256, 4, 6)  # F_m
    n_code: int = setting(512, 1, 8192, "channels of E_I's code")
    encoder_width: float = setting(1.0, 1e-9, 8.0, "factor on the channels of Tables 1 and 2")
    view_range: tuple[float, float, float] = setting(
        (1.0472, 1.0472, 1.0472), 0.01, 3.15, "pitch, yaw, roll where E_v's tanh is 1", "radians"
    )
    light_range: tuple[float, float] = setting((1.0, 1.0), 1e-9, 1e9, "l_x, l_y where E_l's tanh is 1")
    negative_range: float = setting(0.0, 0, 1, "k_n where E_l's tanh is 1; 0: no negative shading term")
    background: float | None = setting(
        None, 0, 1, "gray behind the object; not given: rays that miss it are ignored"
    )
    transfer_residual: bool = setting(
        False, None, None, "re-renders show what F_m leaves unexplained of the sample's own image"
    )
    n_unlabeled: int = setting(0, 0, BLOCK, "other GAN samples that E_w, E_v and E_l learn from")
    masks: str = setting(
        "none", None, None, "where masks come from; background: whatever differs from it", "", MASKS
    )
    mask_reach: float = setting(
        0.0, 0, 10, "beyond so many times the outline of radii nothing is object, as shoulders; 0: no limit"
    )
    bars: float = setting(0.0, 0, 0.45, "height of the black bars above and below, as a fraction of the side")
    weights: LossWeights = LossWeights()
    rates: LearningRates = LearningRates()
    sampling: SamplingConfig = SamplingConfig()
    batch: BatchConfig = BatchConfig()
    truncation: float = setting(0.7, 0, 1, "psi of the samples that are lifted")
    license: str = setting("the license of the GAN", None, None, "of images and models made with it")

    def __post_init__(self) -> None:
        check(self)
        for problem in _contradictions(self):
            raise ConfigError(problem)

    def __repr__(self) -> str:
        return f"Preset({self.name!r}, {self.size} pixels)"

    def to_json(self) -> str:
        """All settings as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Preset":
        """Inverse of ``to_json``, without settings that were retired; unknown and missing keys and wrong
        types raise ``ConfigError``.
        """
        try:
            value = json.loads(text)
        except (ValueError, RecursionError, TypeError) as error:
            raise ConfigError(f"preset is not JSON: {error}") from error
        if isinstance(value, dict) and isinstance(value.get("refine"), dict):
            value["refine"] = {k: v for k, v in value["refine"].items() if k not in RETIRED}
        return from_plain(Preset, value, "preset")


def from_plain(kind: object, value: object, where: str) -> object:
    """``value`` (from JSON) as an instance of ``kind``: dataclass, tuple, optional or plain."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return from_plain(next(a for a in arguments if a is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    if origin is tuple:
        return _build_tuple(arguments, value, where)
    if kind is float and type(value) is int:
        return float(value) if abs(value) < 2**1023 else math.inf  # which no range allows
    if type(value) is not kind:  # not isinstance: True is no number
        raise ConfigError(f"{where} is {shown(value)}, expected {kind.__name__}")
    return value


def _build_dataclass(kind: type, value: object, where: str) -> object:
    """A JSON object as a dataclass."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {shown(value)}, expected a table of {kind.__name__}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key in value:
        if key not in known:
            raise ConfigError(f"{where}: unknown setting {shown(key)}, known are {', '.join(known)}")
    for name, f in known.items():
        if name not in value and f.default is dataclasses.MISSING:
            raise ConfigError(f"{where}: setting {name!r} is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{key: from_plain(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _build_tuple(arguments: tuple[object, ...], value: object, where: str) -> tuple[object, ...]:
    """A JSON array as tuple[x, ...] or as a tuple of fixed length."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} is {shown(value)}, expected a list")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ConfigError(f"{where} has {len(value)} numbers, expected {len(arguments)}")
    return tuple(from_plain(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))


def _contradictions(preset: Preset) -> Iterator[str]:
    """What does not fit together, though each value is in its range."""
    if preset.size & (preset.size - 1):
        yield f"size is {preset.size}, expected a power of 2 from 8 to 1024"
    if preset.masks in ("files", "auto") and preset.weights.mask == 0:
        yield f"masks is {preset.masks!r}, but weights.mask is 0: set it to 0.2, or masks to 'none'"
    if preset.masks == "background" and preset.background is None:
        yield "masks is 'background', which needs background, a gray from 0 to 1"
    if preset.n_unlabeled and preset.masks == "none" and preset.background is None:
        yield f"n_unlabeled is {preset.n_unlabeled}, which needs masks: set masks to 'auto', or it to 0"
    named = [("joint", preset.joint), *((f"instance[{i}]", s) for i, s in enumerate(preset.instance))]
    for name, schedule in named:
        if schedule is not None:
            yield from _schedule_contradictions(name, schedule, preset)
    yield from _unreachable_views(preset)
    yield from _unreachable_lights(preset)


def _schedule_contradictions(name: str, schedule: Schedule, preset: Preset) -> Iterator[str]:
    size, patch, is_joint = schedule.size, preset.batch.patch, name == "joint"
    if not patch <= size <= preset.size:
        yield f"{name}.size is {size}, expected a number from batch.patch ({patch}) to size ({preset.size})"
    if is_joint and size != preset.size:
        yield f"joint.size is {size}, expected size, {preset.size}"
    why = "n_unlabeled is 0" if is_joint else "one object has no unlabeled samples"
    for kind in ("latent", "calibrate", "distill", "lean", "realign"):
        if (steps := getattr(schedule, kind)) and not (is_joint and preset.n_unlabeled):
            yield f"{name}.{kind} is {steps}, but {why}: set {name}.{kind} to 0"


def _unreachable_views(preset: Preset) -> Iterator[str]:
    """Views of the prior that E_v could never name."""
    prior, reach = preset.view_prior, (*preset.view_range, *TRANSLATION_RANGE)
    ends = [
        (m - limit, m + limit) if std else (m, m) for m, std, limit in zip(prior.mean, prior.std, prior.limit)
    ]
    for side in zip(*ends):
        if not all(abs(v) <= r + TOLERANCE for v, r in zip(side, reach)):
            limits = [round(r, 4) for r in reach]
            yield f"view_prior reaches {list(side)}, but mean +- limit must stay within +- {limits}"


def _unreachable_lights(preset: Preset) -> Iterator[str]:
    """Lights of the prior that E_l could never name."""
    light, (x, y) = preset.light_prior, preset.light_range
    bounds = ((0.0, 1.0), (0.0, 1.0), (-x, x), (-y, y), (0.0, preset.negative_range))
    for i in range(2):
        ambient = light.level[i] - light.coupling * light.diffuse[1 - i]
        end = (ambient, light.diffuse[i], light.l_x[i], light.l_y[i], light.negative[i])
        if not all(low - TOLERANCE <= v <= high + TOLERANCE for v, (low, high) in zip(end, bounds)):
            yield (
                f"light_prior reaches (k_a, k_d, l_x, l_y, k_n) = {[round(v, 4) for v in end]}; k_a and k_d "
                "must stay within 0 and 1, l_x and l_y within +- light_range, k_n within 0 and negative_range"
            )
