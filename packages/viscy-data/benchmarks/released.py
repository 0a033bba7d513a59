"""VisCy's released sampler: a file that the user provides, since no version of it is installed.

This package has the same name as the package that the file comes from, so it cannot be imported by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from .setting import BATCH_SIZE, OPTIONS

AXES = "all four; conditions are not balanced while times are enriched"
# Versions of mehta-lab/VisCy's viscy-data, by the SHA-256 of their sampler.py.
_VERSIONS = {"05fc5202766e11ecd3be10e550d31806d17e556d4fc8f6e94643f17930814cc6": "0.1.0"}


def epochs_of(file: Path, table: pd.DataFrame) -> Callable[[], Iterator[list[int]]]:
    """Return a function that starts an epoch by building one batch at a time.

    Some versions build a complete epoch before they yield its first batch, so the method that builds one is called.
    Options that other versions name differently are passed under the names that this one has.
    """
    sampler_type = module_of(file).FlexibleBatchSampler
    known = inspect.signature(sampler_type).parameters
    if not {"experiment_aware", "batch_group_by"} & set(known):
        raise TypeError(f"the sampler must have experiment_aware or batch_group_by, got {', '.join(known)}")
    table = table.assign(hours_post_perturbation=table["hours_post_infection"])
    weights = dict.fromkeys(table["experiment"].cat.categories, 1.0)
    options: dict[str, Any] = {
        **OPTIONS,
        "batch_group_by": "experiment",
        "experiment_weights": weights,
        "group_weights": weights,
        "stratify_by": "condition",
    }
    sampler = sampler_type(table, **{name: value for name, value in options.items() if name in known})
    rng = np.random.default_rng(0)
    return lambda: (sampler._build_one_batch(rng) for _ in range(len(table) // BATCH_SIZE))


def version_of(file: Path) -> str:
    """Describe the version of the sampler in a file."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    version = f"viscy-data {_VERSIONS[digest]}" if digest in _VERSIONS else "an unlisted version"
    return f"{version} of mehta-lab/VisCy (SHA-256 of its sampler.py: {digest[:12]}...)"


def module_of(file: Path) -> ModuleType:
    """Import a file that is not part of a package."""
    spec = importlib.util.spec_from_file_location("sampler_of_a_peer", file)
    if spec is None or spec.loader is None:
        raise ImportError(f"a sampler must be in a Python file, got {file}")
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
