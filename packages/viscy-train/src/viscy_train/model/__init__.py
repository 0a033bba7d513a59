"""The network, its loss and the Lightning module that trains it.

Imports `config`; `training`, `evaluation` and `cli` may import it.
"""
