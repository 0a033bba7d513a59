"""The files of a run: their names and formats, and how to write, cut and read them.

Imports `config`; `loading` and all later stages may import it.
"""
