"""Lightning rebuilds batch samplers for prediction whatever its settings are; those of the data module stay."""

from typing import Any

import numpy as np
import pytest
from lightning.pytorch import Trainer

from viscy_train.config.schema import EncoderConfig
from viscy_train.loading.data_module import PairDataModule
from viscy_train.model.module import ContrastiveModule
from viscy_train.training.lightning_warnings import quiet_lightning


@pytest.mark.parametrize(
    "options",
    [
        {"use_distributed_sampler": True},
        {"use_distributed_sampler": False},
        {"overfit_batches": 1},
        {"reload_dataloaders_every_n_epochs": 1},
    ],
    ids=str,
)
def test_every_observation_is_predicted_once(make_project, table, tmp_path, options):
    make_project(tmp_path)
    paths = tmp_path / "experiments.yaml", tmp_path / "anchors.parquet"
    data = PairDataModule(*paths, crop=16, positive=table.positive, num_workers=0)
    model = ContrastiveModule(EncoderConfig(width=2, features=4, projection=4), n_channels=2, crop=16)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with quiet_lightning():
        trainer = Trainer(accelerator="cpu", devices=1, **quiet, **options)
        outputs: Any = trainer.predict(model, datamodule=data)
    rows = np.concatenate([output["row"] for output in outputs])
    np.testing.assert_array_equal(rows, np.arange(len(table.observations)))
