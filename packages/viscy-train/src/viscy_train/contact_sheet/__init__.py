"""Contact sheet: one picture of what training will read, to look at before it, and what its pixels show to be wrong.

Imports `anchors`, `crops`, `loading` and `plates`, and draws with Pillow alone; `report` and `cli` may import it.
"""
