"""User error: something that the person at the keyboard can put right, told in one line."""


class UserError(ValueError):
    """A mistake in what was asked for: a file, a name, an option.

    The command line prints the message as one line and exits with code 2. Anything else that is raised is a bug of the
    program and keeps its traceback.
    """
