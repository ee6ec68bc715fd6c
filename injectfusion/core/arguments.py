"""Command lines whose mistakes end in one line."""

import sys
from argparse import ArgumentParser
from typing import NoReturn


class OneLineParser(ArgumentParser):
    """A parser whose errors are one line: it leaves out the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (`{self.prog} --help` lists the arguments)", file=sys.stderr)
        sys.exit(2)
