"""Codecs of zarr-python: all of them, for the arrays that it opens."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_ZARR_CODECS = "zarr.core.codec_pipeline.BatchedCodecPipeline"


@contextmanager
def zarr_codecs() -> Generator[None]:
    """Open arrays with all codecs of zarr-python, without its advice on codecs that are not in the specification.

    iohub makes another codec pipeline the default of its process, which does not have all codecs.
    """
    import zarr
    import zarr.errors

    with warnings.catch_warnings(), zarr.config.set({"codec_pipeline.path": _ZARR_CODECS}):
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        yield
