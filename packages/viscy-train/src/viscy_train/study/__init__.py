"""Does a composition pay? Runs that differ only in it, on made-up worlds or folds of a project, and what they show.

Imports all lower levels; only `cli` may import it.
"""
