"""A plain training loop: the epoch is set, and a run that stopped in mid-epoch resumes with the batch after the last.

Run it with the folder of a project, such as that of ``viscy-train demo``: ``python plain_loop.py viscy-demo``
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from project import Model, make_data, make_loss

from viscy_train import PairDataModule, PairLoader, make_labels


def train(data: PairDataModule, n_steps: int, state: dict | None = None) -> tuple[list[list[int]], dict]:
    """Train for some steps; return the rows of the anchor table in each batch, and the state to resume from."""
    torch.manual_seed(0)
    model, loss = Model(data), make_loss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    loader = PairLoader(data)
    if state is not None:
        # The state counts the batches that this loop got, not those that threads have read ahead.
        loader.load_state_dict(state["loader"])
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    rows = []
    for batch in islice(_batches_of_all_epochs(loader), n_steps):
        projections = model(torch.cat([batch["anchor"], batch["positive"]]))
        value = loss(projections, make_labels(batch, "lineage", rank=0).repeat(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        rows.append(batch["row"].tolist())
    parts = {"loader": loader, "model": model, "optimizer": optimizer}
    return rows, {name: part.state_dict() for name, part in parts.items()}


def _batches_of_all_epochs(loader: PairLoader) -> Iterator[dict]:
    epoch = loader.state_dict()["epoch"]
    while True:
        # The sequence of batches depends on seed and epoch. A resumed epoch keeps its position.
        loader.set_epoch(epoch)
        yield from loader
        epoch += 1


if __name__ == "__main__":
    data = make_data(Path(sys.argv[1]))
    first, state = train(data, 3)
    rest, _ = train(data, 3, state)
    uninterrupted, _ = train(data, 6)
    assert first + rest == uninterrupted
    print(f"6 batches of {len(first[0])} anchors, the same with and without an interruption")
