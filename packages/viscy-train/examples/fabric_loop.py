"""Lightning Fabric: each rank draws its own batches, so Fabric must not distribute them again.

Run it with the folder of a project: ``python fabric_loop.py viscy-demo 2``, where 2 is the number of processes.
"""

import sys
from itertools import islice
from pathlib import Path

import torch
from lightning.fabric import Fabric
from project import Model, make_data, make_loss

from viscy_train import PairLoader, make_labels


def train(fabric: Fabric, folder: Path, n_steps: int) -> None:
    """Train for some steps, and print the experiments in the batches of each rank."""
    with fabric.rank_zero_first():  # one process builds the anchor table
        data = make_data(folder)
    torch.manual_seed(0)
    model = Model(data)
    model, optimizer = fabric.setup(model, torch.optim.AdamW(model.parameters(), lr=2e-3))
    loss = make_loss()
    # Not `fabric.setup_dataloaders`, which would put a DistributedSampler in the place of the composed batches.
    loader = PairLoader(data, rank=fabric.global_rank, num_replicas=fabric.world_size, device=fabric.device)
    experiment = data.table.observations["experiment"]
    loader.set_epoch(0)
    for step, batch in enumerate(islice(loader, n_steps)):
        projections = model(torch.cat([batch["anchor"], batch["positive"]]))
        value = loss(projections, make_labels(batch, "lineage", rank=fabric.global_rank).repeat(2))
        optimizer.zero_grad()
        fabric.backward(value)
        optimizer.step()
        # Every batch is of one experiment, on each rank.
        (name,) = experiment.iloc[batch["row"].cpu().numpy()].unique()
        print(f"rank {fabric.global_rank} step {step} batch {int(batch['batch'])} experiment {name}", flush=True)


if __name__ == "__main__":
    fabric = Fabric(accelerator="cpu", devices=int(sys.argv[2]), strategy="ddp" if sys.argv[2] != "1" else "auto")
    fabric.launch()
    train(fabric, Path(sys.argv[1]), 2)
