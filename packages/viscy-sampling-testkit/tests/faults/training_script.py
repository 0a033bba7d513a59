"""A training program of one file, without dependencies, that resumes rightly; `--mutant` gives it one mistake.

Each rank is a process with one data worker. In each step, rank 0 averages the gradients of all ranks. Every third step
it saves a checkpoint with a checksum. All batches are recorded with their attempt.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

N_ROWS, BATCH_SIZE, N_EPOCHS = 36, 4, 2
N_BATCHES = N_ROWS // BATCH_SIZE
SECONDS_PER_STEP = 0.002
CHECKPOINT_EVERY = 3
CONNECT_SECONDS = 30.0


class LostError(Exception):
    """A rank or a worker is gone."""


def rows_of(epoch, batch, seed=0):
    """Return the rows of a batch of the endless sequence of an epoch."""
    order = list(range(N_ROWS))
    random.Random(f"{seed} {epoch} {batch // N_BATCHES}").shuffle(order)
    start = batch % N_BATCHES * BATCH_SIZE
    return order[start : start + BATCH_SIZE]


class Worker:
    """A child process that reads the values of rows."""

    def __init__(self, data, mutant):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            os._exit(self.serve(theirs.makefile("rw"), data, mutant))
        theirs.close()
        self.file = ours.makefile("rw")

    @staticmethod
    def serve(file, data, mutant):
        for line in file:
            rows = json.loads(line)
            try:
                values = (data / "values.txt").read_text().split()
                answer = [float(values[row]) for row in rows]
            except OSError as error:
                answer = [0.0] * len(rows) if mutant == "reads zeros" else f"cannot read the data: {error}"
            print(json.dumps(answer), file=file, flush=True)
        return 0

    def values(self, rows):
        try:
            print(json.dumps(rows), file=self.file, flush=True)
            answer = self.file.readline()
        except OSError:
            answer = ""
        if not answer:
            raise LostError("a data worker is gone")
        if isinstance(json.loads(answer), str):
            raise LostError(json.loads(answer))
        return json.loads(answer)

    def close(self):
        self.file.close()
        os.waitpid(self.pid, 0)


class Ranks:
    """The connections between rank 0 and the others."""

    def __init__(self, rank, num_replicas, address):
        self.rank, self.peers = rank, []
        if rank > 0:
            self.peers = [self.connect(address).makefile("rw")]
        elif num_replicas > 1:
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"\0{address}")
                server.listen()
                self.peers = [server.accept()[0].makefile("rw") for _ in range(num_replicas - 1)]

    @staticmethod
    def connect(address):
        ends = time.monotonic() + CONNECT_SECONDS
        while time.monotonic() < ends:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(f"\0{address}")
                return connection
            except OSError:
                connection.close()
                time.sleep(0.01)
        raise LostError("rank 0 is gone")

    def mean(self, value):
        """Return the mean of a value over all ranks."""
        try:
            if self.rank > 0:
                self.send(self.peers[0], value)
                return self.receive(self.peers[0])
            values = [value, *map(self.receive, self.peers)]
            mean = sum(values) / len(values)
            for peer in self.peers:
                self.send(peer, mean)
        except OSError as error:
            raise LostError(f"a rank is gone: {error}") from error
        return mean

    @staticmethod
    def send(peer, value):
        print(repr(value), file=peer, flush=True)

    @staticmethod
    def receive(peer):
        line = peer.readline()
        if not line:
            raise LostError("a rank is gone")
        return float(line)


class Training:
    """The loop of one rank."""

    def __init__(self, options):
        self.options, self.mutant = options, options.mutant
        self.directory, self.rank, self.num_replicas = Path(options.directory), options.rank, options.num_replicas
        self.checkpoint = self.directory / "checkpoint"
        self.state = {"step": 0, "epoch": 0, "position": 0, "weight": 0.0, "velocity": 0.0, "attempt": 0, "ranks": 0}
        self.resumed = options.resume and self.checkpoint.exists()
        self.last_epoch = N_EPOCHS
        if self.resumed:
            self.load()
        elif options.resume:
            self.state["attempt"] = 1

    def load(self):
        try:
            checksum, content = self.checkpoint.read_text().split("\n")
            if hashlib.sha256(content.encode()).hexdigest() != checksum:
                raise ValueError
        except ValueError:
            if self.mutant == "accepts a cut checkpoint":
                self.state["attempt"] = 1
                return
            raise LostError("the checkpoint is damaged; restore it") from None
        self.state = json.loads(content)
        self.spoil_state()
        self.state["attempt"] += 1

    def spoil_state(self):
        """Make the mistakes that concern the state of a resumed run."""
        if self.mutant == "resumes one batch late":
            epochs, self.state["position"] = divmod(self.state["position"] + 1, N_BATCHES)
            self.state["epoch"] += epochs
        if self.mutant == "repeats a batch":
            self.state["position"] -= 1
        if self.mutant == "forgets the velocity":
            self.state["velocity"] = 0.0
        if self.mutant == "trains on an epoch too many":
            self.last_epoch += 1
        if self.mutant == "loses the weights on other ranks" and self.state["ranks"] != self.num_replicas:
            self.state |= {"weight": 0.0, "velocity": 0.0}
        if self.mutant == "loses the position on other ranks" and self.state["ranks"] != self.num_replicas:
            self.state["position"] = 0

    def save(self):
        content = json.dumps(self.state | {"ranks": self.num_replicas})
        unfinished = self.checkpoint.with_suffix(".unfinished")
        with unfinished.open("w") as file:
            file.write(f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.checkpoint)

    def run(self):
        self.ranks = Ranks(self.rank, self.num_replicas, self.options.address)
        self.worker = Worker(self.directory / "data", self.mutant)
        self.record = (self.directory / f"batches-{self.rank}.jsonl").open("a")
        self.write_line("")  # ends a line that a killed process has left
        while self.state["epoch"] < self.last_epoch:
            while self.state["position"] < N_BATCHES:
                self.step()
            self.state |= {"epoch": self.state["epoch"] + 1, "position": 0}
        self.save_if_due(is_due=True)
        self.write(self.record.close)
        self.worker.close()

    def step(self):
        state = self.state
        number = state["position"] + self.rank
        if self.mutant == "changes the order" and self.resumed:
            number = state["position"] + self.num_replicas - 1 - self.rank
        is_odd = self.mutant == "draws other rows" and self.resumed
        rows = rows_of(state["epoch"], number, seed=int(is_odd))
        values = self.values(rows)
        loss = sum((state["weight"] - value) ** 2 for value in values) / len(values)
        time.sleep(self.seconds_per_step())
        if self.mutant == "records no loss" and self.resumed:
            loss = None
        fields = [state["step"], state["epoch"], number, self.rank, rows, loss, state["attempt"]]
        # Before the other ranks can save a state that contains this batch.
        self.write_line(json.dumps(fields))
        gradient = self.mean(2 * (state["weight"] - sum(values) / len(values)))
        state["velocity"] = 0.5 * state["velocity"] + gradient
        state["weight"] -= 0.005 * self.num_replicas * state["velocity"]
        state["step"] += 1
        state["position"] += self.num_replicas
        self.save_if_due(is_due=state["step"] % CHECKPOINT_EVERY == 0)

    def seconds_per_step(self):
        """Take longer where a fault is expected, so that a loaded machine does not miss it."""
        n_steps = N_EPOCHS * -(-N_BATCHES // self.num_replicas)
        is_expected = self.options.disturbed and self.state["step"] >= n_steps // 2
        return SECONDS_PER_STEP * (25 if is_expected else 1)

    def values(self, rows):
        try:
            return self.worker.values(rows)
        except LostError:
            if self.mutant != "skips the batch of a lost worker":
                raise
            self.worker = Worker(self.directory / "data", self.mutant)
            self.state["position"] += self.num_replicas
            return self.worker.values(rows)

    def mean(self, value):
        try:
            return self.ranks.mean(value)
        except LostError:
            if self.mutant == "trains on without a rank" and self.rank == 0:
                self.ranks.peers = []
                return value
            if self.mutant == "hangs without a rank":
                time.sleep(3600)
            raise

    def write_line(self, line):
        self.write(lambda: print(line, file=self.record, flush=True))

    def save_if_due(self, *, is_due):
        if is_due and self.rank == 0:
            self.write(self.save)

    def write(self, action):
        try:
            action()
        except OSError:
            if self.mutant != "ignores a full disk":
                raise


def leave_a_child():
    subprocess.Popen(["sleep", "3600"], start_new_session=True)


def take_lock(directory, rank):
    if rank == 0:
        try:
            (directory / "lock").touch(exist_ok=False)
        except FileExistsError:
            raise LostError("another run uses this directory") from None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    for name in ("--rank", "--num-replicas", "--resume"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--disturbed", type=int, default=0)
    parser.add_argument("--address", default="")
    parser.add_argument("--mutant", default="")
    options = parser.parse_args()
    mutant, directory = options.mutant, Path(options.directory)
    if mutant == "leaves a child behind":
        leave_a_child()
    if mutant == "ends after a pause":
        signal.signal(signal.SIGCONT, lambda *_: os._exit(3))
    try:
        if mutant == "leaves a lock behind":
            take_lock(directory, options.rank)
        Training(options).run()
        (directory / "lock").unlink(missing_ok=True)
    except (LostError, OSError) as error:
        if mutant == "prints a traceback":
            traceback.print_exc()
        elif mutant == "dies by a signal":
            os.kill(os.getpid(), signal.SIGABRT)
        elif mutant != "says nothing":
            print(f"training: {error}", file=sys.stderr)
        os._exit(0 if mutant == "claims success" else 1)


if __name__ == "__main__":
    main()
