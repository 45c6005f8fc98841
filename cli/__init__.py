"""The command line: click commands, one file each. A command is: parse, one library call, echo.

Progress and messages go to stderr, results to stdout. The files import the library inside their functions,
so that ``lift3d --help`` does not wait for torch.
"""
