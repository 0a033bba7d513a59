"""Training under launchers that are not ours: Lightning's own, and torchrun on two nodes."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory

pytestmark = pytest.mark.slow
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
# Checkpoints are so rare that only the stop itself can have saved the state.
CHANGES = {"trainer.max_epochs": 2, "data.sampler.batch_size": 8, "checkpoint.every_n_steps": 1000}
# The report of a run is not tested here, and takes longer than its training.
NO_REPORT = """
import viscy_train.report.write
viscy_train.report.write.evaluate_and_write_page = lambda *_: None
"""
_STARTS = 3
# What processes print that did not meet, for instance because another process took the port.
_NOT_MET = re.compile("EADDRINUSE|address already in use|Rendezvous|DistNetworkError|DistStoreError|failed to connect")


@dataclass(frozen=True)
class Node:
    """A machine, or what stands for one: its address, and how to run a command on it."""

    address: str = "127.0.0.1"
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def launched(tmp_path, wait_until):
    """A context that launches commands and waits for the first steps; nothing that they start is left at the end.

    Takes a function that returns commands, each with its environment. It is called again for another start if the
    processes did not meet.
    """

    def has_steps():
        path = RunDirectory(tmp_path / "run").metrics
        return path.exists() and path.read_text().count("\n") > 5

    @contextlib.contextmanager
    def started(commands, output):
        processes = []
        try:
            for command, environment in commands:
                with output.open("a") as file:
                    processes.append(
                        subprocess.Popen(
                            command,
                            cwd=tmp_path,
                            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
                            stdout=file,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,
                        )
                    )
            yield processes
        finally:
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @contextlib.contextmanager
    def launch(make_commands):
        for number in range(_STARTS):
            output = tmp_path / f"output-{number}.txt"
            with started(make_commands(), output) as processes:

                def is_decided(processes=processes):
                    return has_steps() or any(process.poll() is not None for process in processes)

                wait_until(is_decided, output.read_text)
                if has_steps():
                    yield processes, output
                    return
            assert _NOT_MET.search(output.read_text()), output.read_text()
        pytest.fail(f"the processes did not meet in {_STARTS} starts: {output.read_text()}")

    return launch


@pytest.fixture
def assert_resumes(run_viscy_train, tmp_path):
    """A function that resumes the run on one process, and checks that it has trained on every batch once."""

    def check():
        assert "Resuming from " in run_viscy_train(FIT, tmp_path, before=NO_REPORT).stdout
        slots = RunDirectory(tmp_path / "run").read_batches()
        sizes = slots.groupby(["epoch", "batch"]).size()
        assert len(sizes) == CHANGES["trainer.max_epochs"] * (slots["batch"].max() + 1)
        assert set(sizes) == {CHANGES["data.sampler.batch_size"]}
        assert slots["rank"].nunique() == 2

    return check


@pytest.mark.weekly
def test_a_run_of_lightnings_launcher_stops_when_its_first_process_gets_the_signal(
    make_project, launched, assert_resumes, wait_until, tmp_path
):
    """A batch system or a supervisor knows the process that it started, and no other."""
    make_project(tmp_path, **CHANGES)
    fit = [sys.executable, "-m", "viscy_train", *FIT, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    with launched(lambda: [(fit, {})]) as ((process,), output):
        process.terminate()
        wait_until(lambda: process.poll() is not None, output.read_text)
    assert process.returncode == EXIT_STOPPED, output.read_text()
    assert "Traceback" not in output.read_text()
    assert_resumes()


@contextlib.contextmanager
def network_namespaces():
    """Make two networks that reach each other through one cable, as two machines do."""

    def ip(line):
        subprocess.run(["ip", *line.split()], check=True, capture_output=True, text=True)

    names = [f"viscy-{os.getpid()}-{number}" for number in range(2)]
    cables = [f"veth{os.getpid() % 10**7}{side}" for side in "ab"]
    addresses = ["10.213.47.1", "10.213.47.2"]
    try:
        for name in names:
            ip(f"netns add {name}")
        ip(f"link add {cables[0]} netns {names[0]} type veth peer name {cables[1]} netns {names[1]}")
        for name, cable, address in zip(names, cables, addresses, strict=True):
            ip(f"-n {name} address add {address}/24 dev {cable}")
            for device in (cable, "lo"):
                ip(f"-n {name} link set {device} up")
        yield [
            Node(address, ["ip", "netns", "exec", name], {"GLOO_SOCKET_IFNAME": cable})
            for name, cable, address in zip(names, cables, addresses, strict=True)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.fixture
def two_nodes():
    """Two nodes: two networks where this machine allows them, else twice this machine."""
    with contextlib.ExitStack() as stack:
        nodes = [Node(), Node()]
        if shutil.which("ip"):
            with contextlib.suppress(subprocess.CalledProcessError):
                nodes = stack.enter_context(network_namespaces())
        yield nodes


def torchrun(nodes):
    """Return the command of each node, and its environment."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        endpoint = f"{nodes[0].address}:{probe.getsockname()[1]}"
    launcher = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    training = ["viscy_train", *FIT, "--trainer.num_nodes", "2", "--trainer.devices", "1"]
    return [
        (
            [
                *(*node.command, sys.executable, "-m", *launcher),
                *("--rdzv-endpoint", endpoint, "--local-addr", node.address),
                # On a cluster, where hostnames have addresses, torchrun finds out on which of them it runs.
                *("--rdzv-conf", f"is_host={node is nodes[0]}"),
                *("-m", *training),
            ],
            node.environment,
        )
        for node in nodes
    ]


@pytest.mark.weekly
def test_a_run_of_torchrun_on_two_nodes_stops_when_one_gets_the_signal(
    make_project, launched, assert_resumes, wait_until, two_nodes, tmp_path
):
    make_project(tmp_path, **CHANGES)
    with launched(lambda: torchrun(two_nodes)) as (processes, output):
        processes[1].terminate()
        wait_until(lambda: all(process.poll() is not None for process in processes), output.read_text)
    assert all(process.returncode for process in processes), output.read_text()
    assert "stopped on request after step" in output.read_text()
    assert_resumes()
