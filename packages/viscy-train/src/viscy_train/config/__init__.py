"""What the user wrote: the sections of a configuration, the checks of their values, and YAML files with line numbers.

Imports only the modules beside it; every other sub-package may import it.
"""
