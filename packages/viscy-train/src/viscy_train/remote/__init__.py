"""Remote files: plates, tracks and tables in object stores and on web servers, with the methods of `pathlib.Path`.

Imports the basics only; every later step may import it.
"""
