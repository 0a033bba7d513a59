"""Sheet picture: the contact sheet of the demo project, drawn for the page on how to get started."""

from pathlib import Path
from tempfile import TemporaryDirectory

from viscy_train.anchors.build import build_anchor_table
from viscy_train.config.schema import CropSettings, PositiveConfig
from viscy_train.contact_sheet.make import make_sheet
from viscy_train.experiments.experiments_file import load_experiments
from viscy_train.sample_projects.demo import write_demo


def draw(directory: Path) -> Path:
    """Write ``contact-sheet.png`` to a directory, which is created if necessary."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as temporary:
        project = write_demo(Path(temporary, "demo")).parent
        positive = PositiveConfig(min_frames=1, max_frames=4)
        # Two experiments are enough to see what a sheet looks like.
        experiments = load_experiments(project / "experiments.yaml")[:2]
        table = build_anchor_table(experiments, positive, CropSettings(crop=32))
        source = project / "anchors.parquet"
        table.write(source)
        return make_sheet(table, source, directory / "contact-sheet.png", again=True).path
