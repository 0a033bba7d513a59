"""The files of a run: their names, how they are written, cut and read.

Imports `config`; `loading` and all later stages may import it.
"""
