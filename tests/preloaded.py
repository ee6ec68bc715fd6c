"""Runs programs in forks of a process that has imported the slow libraries once: imports take most of a short run.

It reads one request a line from stdin, {"arguments", "folder", "environment", "stdout", "stderr", "file_limit"}, runs
`python ARGUMENTS` in a fork, with both outputs in files, and answers with the exit code.
"""

import json
import os
import resource
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

SLOW = ["diffusers.models.unets.unet_2d", "experiments.engine.runner", "matplotlib.figure", "open_clip", "torchmetrics"]


def run_program(arguments: Sequence[str]) -> None:
    """As the command line of Python: a script, `-m MODULE` or `-c CODE`, each with arguments."""
    match arguments:
        case ["-m", module, *rest]:
            sys.path[0], sys.argv = str(Path.cwd()), [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.path[0], sys.argv = "", ["-c", *rest]
            exec(code, {"__name__": "__main__"})
        case [script, *rest]:
            sys.path[0], sys.argv = str(Path(script).parent), [script, *rest]
            runpy.run_path(script, run_name="__main__")


def serve() -> None:
    for name in SLOW:
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            for stream in (0, 1, 2):
                os.close(stream)
            os.open(os.devnull, os.O_RDONLY)  # each takes the lowest number that is free: 0, 1, 2
            for name in ("stdout", "stderr"):
                os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            resource.setrlimit(resource.RLIMIT_FSIZE, request["file_limit"])
            run_program(request["arguments"])
            return  # or SystemExit: Python ends the fork as any process
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
