"""Accelerate: the processes share each batch, and each gets its own part of it.

Run it with the folder of a project: ``torchrun --nproc-per-node 2 accelerate_loop.py viscy-demo``
"""

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator
from project import SAMPLER, Model, make_data, make_loss

from viscy_train import PairLoader, make_labels


def train(folder: Path, n_steps: int) -> None:
    """Train for some steps, and print which part of which batch each process has."""
    accelerator = Accelerator(cpu=True)
    with accelerator.main_process_first():  # one process builds the anchor table
        data = make_data(folder, replace(SAMPLER, split_batches=True))
    torch.manual_seed(0)
    model = Model(data)
    # The loader is not prepared: it gives each process its own part already, with the pixels of `viscy-train fit`.
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=2e-3))
    loader = PairLoader(
        data, rank=accelerator.process_index, num_replicas=accelerator.num_processes, device=accelerator.device
    )
    loss = make_loss()
    for batch in islice(loader, n_steps):
        projections = model(torch.cat([batch["anchor"], batch["positive"]]))
        # The loss of the complete batch, whose parts are gathered from all processes: each has the same number.
        labels = make_labels(batch, "lineage", rank=accelerator.process_index).repeat(2)
        value = loss(projections, labels, lambda part: _gather(accelerator, part), accelerator.process_index)
        optimizer.zero_grad()
        accelerator.backward(value)
        optimizer.step()
        rows = data.table.observations.iloc[batch["row"].cpu().numpy()]
        parts: dict[str, object] = {
            "batch": int(batch["batch"]),
            "first_slot": int(batch["first_slot"]),
            "n": len(rows),
        }
        parts |= {"experiments": sorted(rows["experiment"].unique()), "loss": round(value.item(), 4)}
        print(f"rank {accelerator.process_index} {parts}", flush=True)
    accelerator.end_training()


def _gather(accelerator: Accelerator, part: torch.Tensor) -> torch.Tensor:
    return accelerator.gather(part).unflatten(0, (accelerator.num_processes, -1))


if __name__ == "__main__":
    train(Path(sys.argv[1]), 2)
