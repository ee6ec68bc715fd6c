"""What the command lines of this package share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from injectfusion.errors import UserError


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn a UserError into its one line on stderr and exit code 2."""
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
