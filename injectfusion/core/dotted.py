"""Objects by dotted path, such as a user's own blend."""

from pkgutil import resolve_name
from typing import Any

from injectfusion.core import own_code
from injectfusion.core.errors import UserError, first_line


def imported(path: str, key: str) -> Any:
    """The object at a dotted path, `module.name` or `module.Class.name` (hence `Any`).

    Args:
        key: of the configuration or command line, named in the message.
    Raises:
        UserError: it cannot be imported; an error in a user's module is reported with its file and line.
    """
    try:
        if "." not in path.strip("."):
            raise ImportError("a dotted path needs a module and a name")
        return resolve_name(path)
    except Exception as error:  # a module can fail in any way
        reason = own_code.failure(error) or first_line(error)
        advice = "give the dotted path of something that Python can import"
        raise UserError(f"{key}={path} cannot be imported ({reason}); {advice}") from error
