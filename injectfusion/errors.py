"""The one exception for what a user can mend."""


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do.

    Command lines print it as `error: ...` and exit with code 2, without a traceback.
    """
