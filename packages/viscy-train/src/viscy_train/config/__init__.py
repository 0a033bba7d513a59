"""Contents of the user's files: the sections of a configuration, checks of their values, and YAML with line numbers.

Imports only the ground modules such as `errors`; every other sub-package may import it.
"""
