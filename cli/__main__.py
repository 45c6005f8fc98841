"""``python -m lift3d.cli`` is ``lift3d``, for programs such as torchrun that start modules."""

from lift3d.cli.main import main

main(prog_name="lift3d")
