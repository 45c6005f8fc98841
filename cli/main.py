"""The program ``lift3d``: its commands, and the one place where errors become sentences."""

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

from lift3d import __version__
from lift3d.cli.card import card
from lift3d.cli.convert import convert
from lift3d.cli.eval import eval_command
from lift3d.cli.export import export
from lift3d.cli.finetune import finetune
from lift3d.cli.gan import gan
from lift3d.cli.info import info
from lift3d.cli.invert import invert
from lift3d.cli.merge import merge
from lift3d.cli.pretrain import pretrain
from lift3d.cli.prior import prior
from lift3d.cli.refine import refine
from lift3d.cli.runs import runs
from lift3d.cli.sample import sample
from lift3d.cli.turn import turn
from lift3d.cli.verify import verify
from lift3d.cli.view import view
from lift3d.errors import Lift3DError
from lift3d.interrupts import handling


class Interrupted(click.ClickException):
    """Ctrl-C or SIGTERM, with the exit code that shells and schedulers expect: 128 + the signal's number."""

    def __init__(self, number: int) -> None:
        word = "terminated" if number == signal.SIGTERM else "interrupted"
        super().__init__(f"{word}; what was finished is kept, and --resume continues it")
        self.exit_code = 128 + number

    def show(self, file: object = None) -> None:
        click.echo(f"\n{self.message}", err=True)


class Program(click.Group):
    """A group whose commands fail with one sentence for everything that a user can cause and repair."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the command; SIGTERM stops it as Ctrl-C does."""
        try:
            with _sigterm_interrupts() as received:
                return super().invoke(ctx)
        except Lift3DError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as error:
            raise Interrupted(signal.SIGTERM if received else signal.SIGINT) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone: click ends quietly
                raise
            raise click.ClickException(_sentence(error)) from error


@contextmanager
def _sigterm_interrupts() -> Iterator[list[int]]:
    """SIGTERM raises KeyboardInterrupt in the block; the list then holds the signal's number."""
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    with handling(interrupt, signal.SIGTERM):
        yield received


def _sentence(error: OSError) -> str:
    """What the operating system refused, and what to do about it."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; make room and run the command again with --resume"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"{where}permission denied; choose a path that you may read and write"
    return f"{where}{error.strerror or error}"


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__, prog_name="lift3d")
def main() -> None:
    """Lift a pretrained 2D GAN to 3D; write multi-view, multi-light datasets and meshes from it."""


COMMANDS = (
    pretrain, finetune, refine, invert, sample, merge, export, convert, turn,
    view, eval_command, info, runs, verify, card, gan, prior,
)  # fmt: skip
for command in COMMANDS:
    main.add_command(command)

if __name__ == "__main__":
    main()
