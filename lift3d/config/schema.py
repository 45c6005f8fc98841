"""Configuration as frozen dataclasses; values live in presets.py. JSON round trip in which unknown keys fail.

Letters in comments are the symbols of the GAN2X supplement (Tables 4 to 6).
"""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass

from lift3d.errors import ConfigError
from lift3d.render.volume import SamplingConfig
from lift3d.scene.cameras import ViewPrior
from lift3d.scene.lights import LightPrior


@dataclass(frozen=True)
class FieldConfig:
    """Size of F_s or F_m."""

    n_hidden: int = 256  # channels of a hidden layer
    n_layers: int = 8  # hidden layers
    n_frequencies: int = 4  # of the positional encoding
    beta: float = 100.0  # of F_s's softplus, as in NeuS; small nets draw faces sooner with smoother kinks


@dataclass(frozen=True)
class LossWeights:
    """Weights of step 2 and step 3 (Table 4 and section 1 of the supplement)."""

    view_light: float = 1.0  # lambda_vl
    features: float = 1.0  # lambda_d, discriminator features in step 2
    mask: float = 0.0  # lambda_m, 0.2 where masks are used
    eikonal: float = 0.1  # (|grad F_s| - 1)^2 in step 3
    perceptual: float = 0.1  # LPIPS of the patches of step 3
    offset: float = 0.01  # mean square of the latent offset in step 2
    consistency: float = 0.0  # step 2 after the first stage: projections show the requested view and light
    beta: float = 3e-5  # of the chromaticity-based smoothness


@dataclass(frozen=True)
class LearningRates:
    """Adam (Table 4)."""

    fields: float = 5e-4  # F_s and F_m
    material_explore: float = 2e-3  # F_m in step 1
    encoders: float = 2e-4  # E_v, E_l, E_I
    gan_encoder: float = 2e-4  # E_w
    cooldown: float = 0.0  # last fraction of each step in which the rates fall linearly to 0


@dataclass(frozen=True)
class Schedule:
    """One run of explore -> align -> exploit stages (Tables 5 and 6)."""

    size: int  # working size, pixels
    n_samples: int  # GAN samples
    n_rerendered: int  # m, pseudo images per sample and stage
    n_stages: int  # how often explore -> align -> exploit is repeated
    explore_first: int  # iterations of step 1 in the first stage
    explore: int  # iterations of step 1 in the other stages
    align: int  # iterations of step 2
    exploit: int  # iterations of step 3
    open_bands: tuple[
        float, float
    ]  # fraction of open encoding bands, at the start and the end of the schedule
    smooth_albedo: float  # lambda_reg1
    smooth_specular: float  # lambda_reg2
    latent: int = 0  # iterations of step 2 before the first stage's others: E_w tells GAN samples apart


@dataclass(frozen=True)
class Refinement:
    """Shading-based refinement of one image (Tables 5 and 6)."""

    iterations: int = 1000  # on the one target image
    open_bands: tuple[float, float] = (1.0, 1.0)  # fraction of open encoding bands, at the start and the end
    smooth_albedo: float = 0.5  # lambda_reg1
    smooth_specular: float = 0.2  # lambda_reg2


@dataclass(frozen=True)
class BatchConfig:
    """What one iteration looks at."""

    n_images: int = 8  # images that share the random pixels of a step-3 iteration
    n_rays: int = 512  # random pixels, all images together
    patch: int = 32  # side of the patch that replaces them on every other iteration, on average
    n_surface: int = 4096  # pixels of a step-1 iteration, where a pixel costs one point
    n_align: int = 16  # images of a step-2 iteration
    n_latent: int = 32  # pairs of GAN samples of a step-2 iteration of the kind ``Schedule.latent``
    n_view_light: int = (
        8  # projections of a step-3 iteration whose sampled view and light E_v and E_l must name
    )
    jitter: float = 0.0  # by which share the images that teach E_v and E_l are stretched, moved and slanted
    p_original: float | None = None  # of a sample's own image in step 3; None: as likely as one projection
    n_surface_pixels: int = (
        0  # pixels of a step-3 iteration without patch that cost one point each, beside the rays
    )


@dataclass(frozen=True)
class Preset:
    """Everything that defines a lifted GAN and its training."""

    name: str  # what --dataset calls it
    size: int  # working size of encoders and training, pixels
    radii: tuple[float, float, float]  # ellipsoid that exploration starts from, world units
    view_prior: ViewPrior  # of the re-rendered views
    light_prior: LightPrior  # of the re-rendered lights
    joint: Schedule | None  # None: this category is only trained per instance
    instance: tuple[Schedule, ...]  # instance-specific fine-tuning, one after the other
    refine: Refinement = Refinement()
    shape: FieldConfig = FieldConfig(256, 8, 4)  # F_s
    material: FieldConfig = FieldConfig(256, 4, 6)  # F_m
    n_code: int = 512  # channels of E_I's code
    encoder_width: float = 1.0  # factor on the channels of Tables 1 and 2
    view_range: tuple[float, float, float] = (1.0472, 1.0472, 1.0472)  # rotation where E_v's tanh is 1
    light_range: tuple[float, float] = (1.0, 1.0)  # l_x, l_y where E_l's tanh is 1
    negative_range: float = 0.0  # k_n where E_l's tanh is 1; 0: no negative shading term
    background: float | None = None  # gray behind the object, [0, 1]; None: rays that miss it are ignored
    transfer_residual: bool = False  # re-renders show what F_m leaves unexplained of the sample's own image
    n_unlabeled: int = (
        0  # other GAN samples that E_w, E_v and E_l learn from (pseudo_labels/labeler.py); 0: none
    )
    masks: str = "none"  # "none", "background" (whatever differs from the constant), "files" or "auto"
    bars: float = 0.0  # height of the black bars above and below the picture, as a fraction of its side
    weights: LossWeights = LossWeights()
    rates: LearningRates = LearningRates()
    sampling: SamplingConfig = SamplingConfig()
    batch: BatchConfig = BatchConfig()
    truncation: float = 0.7  # psi of the samples that are lifted
    license: str = "the license of the GAN"  # of images and models made with this preset

    def to_json(self) -> str:
        """All settings as JSON."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Preset":
        """Inverse of ``to_json``; unknown and missing keys and wrong types raise ``ConfigError``."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"preset is not JSON: {error}") from error
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
        return float(value)
    if type(value) is not kind:  # not isinstance: True is no number
        raise ConfigError(f"{where} is {value!r}, expected {kind.__name__}")
    return value


def _build_dataclass(kind: type, value: object, where: str) -> object:
    """A JSON object as a dataclass."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where} is {value!r}, expected an object with the settings of {kind.__name__}")
    known = {f.name: f for f in dataclasses.fields(kind)}
    for key in value:
        if key not in known:
            raise ConfigError(f"{where}: unknown setting {key!r}, known are {', '.join(known)}")
    for name, f in known.items():
        if name not in value and f.default is dataclasses.MISSING:
            raise ConfigError(f"{where}: setting {name!r} is missing")
    hints = typing.get_type_hints(kind)
    return kind(**{key: from_plain(hints[key], item, f"{where}.{key}") for key, item in value.items()})


def _build_tuple(arguments: tuple[object, ...], value: object, where: str) -> tuple[object, ...]:
    """A JSON array as tuple[x, ...] or as a tuple of fixed length."""
    if not isinstance(value, list):
        raise ConfigError(f"{where} is {value!r}, expected a list")
    if arguments[-1] is not Ellipsis and len(value) != len(arguments):
        raise ConfigError(f"{where} has {len(value)} numbers, expected {len(arguments)}")
    return tuple(from_plain(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
