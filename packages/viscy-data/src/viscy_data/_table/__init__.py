"""From the user's table to integer codes: kinds of tables, their columns, and how rows are sorted and stored.

This sub-package knows nothing about batches; `index`, and everything that reads an index, may import it.
"""
