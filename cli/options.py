"""Options that several commands share, and what they stand for."""

import os
import sys
import warnings
from collections.abc import Callable, Collection
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lift3d.errors import BackendUnavailable, ConfigError
from lift3d.observer import Observer
from lift3d.settings import shown

if TYPE_CHECKING:
    import torch

    from lift3d.config.schema import Preset
    from lift3d.gan.files.load import LoadedGan

Decorator = Callable[[Callable], Callable]
PATH = click.Path(path_type=Path)
AT_ONCE = 1_000_000  # numbers that a list may name


class NumberList(click.ParamType):
    """Numbers such as "3" or "0-9,12", in the order given, or one of ``words``."""

    name = "LIST"

    def __init__(self, *words: str, at_most: int = AT_ONCE, below: int = 2**63) -> None:
        self.words, self.at_most, self.below = words, at_most, below

    def convert(
        self, value: str | list[int], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | list[int]:
        """The numbers, or the word. ``ConfigError`` for anything else."""
        if not isinstance(value, str) or value in self.words:
            return value
        try:
            return self._numbers(value)
        except ValueError as error:
            option = param.opts[0] if param is not None else "the list"
            raise ConfigError(
                f"{option} is {shown(value)}, expected up to {self.at_most:,} numbers such as 3 or 0-9,12"
            ) from error

    def _numbers(self, text: str) -> list[int]:
        """``ValueError`` for what is no list, runs backwards or has too many or too large numbers."""
        numbers: list[int] = []
        for part in text.split(","):
            low, dash, high = part.strip().partition("-")
            if not (low.isdecimal() and (high.isdecimal() or not dash)):
                raise ValueError("no numbers")
            first, last = int(low), int(high or low)
            if not first <= last < min(self.below, first + self.at_most - len(numbers)):
                raise ValueError("too many, too large or none")
            numbers += range(first, last + 1)
        return numbers


def refuse_without_effect(names: Collection[str], why: str) -> None:
    """Refuses parameters of the running command that were given though they change nothing."""
    context = click.get_current_context()
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name)
        if parameter.name in names and source is not click.core.ParameterSource.DEFAULT:
            raise ConfigError(f"{parameter.opts[0]} has no effect {why}; leave it out")


SEEDS = NumberList(below=2**32)

one_model = click.option(
    "--model", default="demo", metavar="NAME|FILE", help="Bundled model, lifted checkpoint or instance."
)
some_models = partial(click.option, "--model", "models", multiple=True, metavar="NAME|FILE")
models = some_models(
    default=["demo"],
    show_default="demo",
    help="Bundled model, lifted checkpoint or instance; of instances several, each with its own --model.",
)


def _seed(_: click.Context, __: click.Parameter, value: int) -> int:
    """The same range for every command, as datasets keep seeds in 32 bits."""
    if not 0 <= value < 2**32:
        raise ConfigError(f"seed is {value}, expected 0 to 2^32 - 1")
    return value


seed = click.option("--seed", callback=_seed, default=0, help="Seed of every random choice.")
overwrite = click.option("--overwrite", is_flag=True, help="Replace what is already there.")
resume = click.option("--resume", is_flag=True, help="Continue what an earlier, interrupted run left.")
json_output = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
masks = click.option(
    "--masks",
    metavar="none|auto|DIR|run:COMMAND",
    help="Object masks: none, by a segmenter, from images, or by a command.  [default: the preset's]",
)
tensorboard = click.option(
    "--tensorboard", type=PATH, help="Also write the losses for TensorBoard into this directory."
)
truncation = click.option(
    "--trunc", "truncation", type=float, help="Truncation of the latents, 0 to 1.  [default: the model's]"
)
profile = click.option(
    "--profile",
    default="full",
    metavar="quick|full|paper",
    help="quick: every step, as a toy; paper: the preset as published; what FILE.toml says stays.",
)
dry_run = click.option(
    "--dry-run", is_flag=True, help="Print the resolved settings as a file for --dataset and stop."
)
steps = click.option("--steps", type=int, help="Steps at most.  [default: the preset's]")
threads = click.option("--threads", type=int, help="CPU threads.  [default: all cores]")
device = click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where to compute.")


def together(*options: Decorator) -> Decorator:
    """One decorator that adds several options, in this order."""
    return lambda command: reduce(lambda done, option: option(done), reversed(options), command)


compute = together(device, threads)  # the command hands both to ``use_device``
training = together(seed, overwrite, resume, compute)
gan = together(
    click.option(
        "--gan",
        metavar="FILE|package.module:function",
        help="2D GAN to lift: a file, or a function that makes a generator of your own.  "
        "[default: the preset's]",
    ),
    click.option(
        "--accept-license", is_flag=True, help="Accept the terms of the preset's GAN and download it."
    ),
)


def _box(_: click.Context, __: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """Four numbers."""
    if value is None:
        return None
    try:
        left, top, right, bottom = (float(part) for part in value.split(","))
    except ValueError as error:
        raise ConfigError(f"--box is {shown(value)}, expected left,top,right,bottom in pixels") from error
    return left, top, right, bottom


photograph = together(  # what is known of an image
    click.option(
        "--box",
        callback=_box,
        metavar="L,T,R,B",
        help="Pixels that become the frame.  [default: around the object or the face]",
    ),
    click.option(
        "--masks",
        metavar="none|auto|FILE",
        help="Where the object is: it stands on the model's background, by a segmenter, a mask image.",
    ),
)


def use_device(name: str, threads: int | None) -> "torch.device":
    """The device called ``name`` ("auto": CUDA where there is one), after limiting the CPU to ``threads``. Of
    several processes that torchrun started here, each has a CUDA device of its own.

    Denormal numbers become 0: vanishing activations slow a CPU down.
    """
    import torch

    torch.set_flush_denormal(True)
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads is {threads}, expected at least 1")
        torch.set_num_threads(threads)
    own = f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
    if name == "auto":
        name = own if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(own if name == "cuda" else name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device {name!r}, expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cpu":
        return device
    present = torch.cuda.device_count() if device.type == "cuda" and torch.cuda.is_available() else 0
    if (device.index or 0) >= present:
        raise BackendUnavailable(
            f"device {str(device)!r} is not there, {present} CUDA devices are; choose --device cpu or "
            "--device auto"
        )
    return device


def load_gan(load: "Callable[[], LoadedGan]", say: Callable[[str], None]) -> "LoadedGan":
    """The GAN that ``load`` reads; ``say`` tells what its file lacks, instead of Python warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load()
    for note in loaded.notes:
        say(f"{loaded.source} {note}")
    return loaded


def find_gan(preset: "Preset", gan: str | None, accept_license: bool, observer: Observer) -> "LoadedGan":
    """The 2D GAN that a command lifts, by its options."""
    from lift3d.gan.published import find_gan

    accepted = accept_license or (gan is None and _accepts(preset))
    return load_gan(lambda: find_gan(preset, gan, accepted, observer), observer.message)


def require_one(overwrite: bool, resume: bool) -> None:
    """--overwrite and --resume contradict each other."""
    if overwrite and resume:
        raise ConfigError("--overwrite and --resume contradict each other; give one of them")


def require_one_process() -> None:
    """Refuses torchrun where work is not divided: all processes would write the same files."""
    command, size = click.get_current_context().command_path, int(os.environ.get("WORLD_SIZE", 1))
    if size > 1:
        raise ConfigError(
            f"torchrun started {size} processes, but {command} is not divided among several, as lift3d "
            "pretrain is: start it once, without torchrun"
        )


def require_new(path: Path, replace: bool) -> None:
    """Fails early where a result would replace a file that nobody gave up."""
    if path.exists() and not replace:
        raise ConfigError(f"{path} exists; --overwrite replaces it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is no folder; make it, or choose another path")


def _accepts(preset: "Preset") -> bool:
    """Asks whether the terms of a GAN that must be downloaded are accepted, where there is someone to ask."""
    from lift3d.gan.published import published_gan

    gan = published_gan(preset)
    if gan is None or not _is_terminal():
        return False
    click.echo(f"{preset.name} needs the GAN {gan.file} from {gan.urls[0]}\nLicense: {gan.license}", err=True)
    return click.confirm("Accept these terms and download it?", err=True)


def _is_terminal() -> bool:
    """Whether a person can answer."""
    return sys.stdin.isatty()
