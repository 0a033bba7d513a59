"""A project for the examples: the demo with its anchor table, and the parts of a training run that they share."""

from pathlib import Path

from torch import Tensor, nn

from viscy_train import (
    ContrastiveLoss,
    Encoder,
    EncoderConfig,
    LossConfig,
    PairDataModule,
    PositiveConfig,
    SamplerConfig,
    build_anchor_table,
)

SAMPLER = SamplerConfig(batch_size=32, experiment_weights="uniform")
ENCODER = EncoderConfig(name="tiny", width=4, features=16, projection=8)


def make_data(folder: Path, sampler: SamplerConfig = SAMPLER) -> PairDataModule:
    """Return the data of a project in a folder, whose anchor table is built if there is none."""
    data = PairDataModule(
        folder / "experiments.yaml",
        folder / "anchors.parquet",
        crop=16,
        positive=PositiveConfig(min_frames=1, max_frames=4),
        sampler=sampler,
        num_workers=2,  # threads that read ahead
    )
    if not data.path.exists():
        build_anchor_table(data.experiments, data.positive, data.crops).write(data.path)
    return data


class Model(nn.Module):
    """An encoder, and the projection in which the loss compares its embeddings."""

    def __init__(self, data: PairDataModule) -> None:
        super().__init__()
        self.encoder = Encoder(data.n_channels, data.z_slices, data.crop, ENCODER)

    def forward(self, crops: Tensor) -> Tensor:
        """Return projections of crops, shape (n_crops, n_channels, z_slices, side, side)."""
        return self.encoder.project(self.encoder(crops))


def make_loss() -> ContrastiveLoss:
    """Return the supervised contrastive loss, with which crops of a lineage attract each other."""
    return ContrastiveLoss(LossConfig(temperature=0.2))
