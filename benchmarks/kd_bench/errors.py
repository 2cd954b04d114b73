"""The error that a user can act on."""

from __future__ import annotations


class UserError(Exception):
    """Bad input: an unknown name, a corrupt file, a directory that holds something else.

    The message says what was given, what was expected and what to do; the command line prints it without a traceback
    and exits with code 2.
    """
