"""From the user's table to integer codes: what holds the rows, their columns, and how they are sorted and stored.

Knows nothing of batches; `index`, `sampler` and the checks may import it.
"""
