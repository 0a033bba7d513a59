"""User error: something that the person at the keyboard can put right, told in one line."""


class UserError(ValueError):
    """A mistake in what was asked for: a file, a name, an option.

    The command line prints the message as one line and exits with code 2. Anything else that is raised is a bug of the
    program and keeps its traceback.

    Parameters
    ----------
    message : str
        What is wrong and what to do. Of one that a data loader passes on from a worker, with the worker's traceback in
        its message, what the worker said is kept.
    """

    def __init__(self, message: str) -> None:
        lines = message.splitlines()
        if len(lines) > 1 and lines[0].startswith(f"Caught {type(self).__name__} in DataLoader worker process"):
            message = lines[-1].partition(f"{type(self).__name__}: ")[2]
        super().__init__(message)


class ProjectError(UserError):
    """All that does not fit in a project.

    Parameters
    ----------
    problems : list of str
        A line for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        lines = problems if len(problems) == 1 else [f"{len(problems)} things do not fit:", *problems]
        super().__init__("\n  ".join(lines))
