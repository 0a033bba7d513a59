"""VisCy's way: the dataset of its triplet data module, of a checkout that is put first on the path of this process.

This file is a script of its own because VisCy's package has the name of ours. It is run with the folder of the
checkout's ``viscy_data`` in ``PYTHONPATH``.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
from measure import measure  # ty: ignore[import-not-found]


def open_dataset(plate: Path, tracks: Path, channels: list[str], crop: int, n_slices: int) -> Any:
    """Return the dataset of VisCy's data module, with which it opens plates through tensorstore."""
    from viscy_data.triplet import TripletDataModule  # ty: ignore[import-not-found]

    module = TripletDataModule(
        data_path=str(plate),
        tracks_path=str(tracks),
        source_channel=channels,
        z_range=(0, n_slices),
        initial_yx_patch_size=(crop, crop),
        final_yx_patch_size=(crop, crop),
        num_workers=0,
    )
    module.setup("predict")
    return module.predict_dataset


def main(folder: str, batches: str, crop: str, n_slices: str, *channels: str) -> None:
    """Read batches of rows, given in the order of the positions, tracks and frames of our table."""
    warnings.simplefilter("ignore")
    plate, tracks = Path(folder) / "plate.zarr", Path(folder) / "tracks"
    dataset = open_dataset(plate, tracks, list(channels), int(crop), int(n_slices))
    rows = dataset.valid_anchors.reset_index(drop=True)
    index = pd.MultiIndex.from_frame(rows[["track_id", "t"]])
    ours = pd.read_csv(tracks / "rows.csv")
    place = index.get_indexer(pd.MultiIndex.from_frame(ours[["track_id", "t"]]))
    measure(lambda wanted: dataset.__getitems__(place[wanted].tolist())["anchor"].numpy(), batches)


if __name__ == "__main__":
    main(*sys.argv[1:])
