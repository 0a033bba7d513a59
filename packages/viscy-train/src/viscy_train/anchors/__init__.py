"""From plates and tracks to the anchor table: everything that decides which observations can be trained on.

Imports `config`; `loading`, `sample_projects` and all later stages may import it.
"""
