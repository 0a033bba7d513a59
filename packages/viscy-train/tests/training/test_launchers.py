"""Training under launchers of others: Lightning's own, torchrun, and torchrun between two networks."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from viscy_train.exit_codes import EXIT_STOPPED
from viscy_train.run.directory import RunDirectory

pytestmark = pytest.mark.slow
FIT = ["fit", "--config", "config.yaml", "--ckpt_path", "last"]
# So seldom that the state at a stop can only be that of the stop.
CHANGES = {"trainer.max_epochs": 2, "data.sampler.batch_size": 8, "checkpoint.every_n_steps": 1000}
_DEADLINE = 240


@dataclass(frozen=True)
class Node:
    """A machine, or what stands for one: how to run something on it, and what is its address."""

    address: str = "127.0.0.1"
    command: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def launched(folder, commands):
    """Start commands, each with its environment, in a folder; leave none of what they start behind."""
    started = []
    try:
        for number, (command, environment) in enumerate(commands):
            with (folder / f"output-{number}.txt").open("a") as output:
                started.append(
                    subprocess.Popen(
                        command,
                        cwd=folder,
                        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        yield started
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def output_of(folder):
    """Return what the commands of a folder printed."""
    return "".join(path.read_text() for path in sorted(folder.glob("output-*.txt")))


def wait_for_steps(folder, processes):
    """Wait until some steps were made."""
    path = RunDirectory(folder / "run").metrics
    deadline = time.monotonic() + _DEADLINE
    while not path.exists() or path.read_text().count("\n") < 6:
        assert time.monotonic() < deadline, output_of(folder)
        assert all(process.poll() is None for process in processes), output_of(folder)
        time.sleep(0.02)


def end(folder, processes):
    """Wait until all have ended; return their exit codes."""
    deadline = time.monotonic() + _DEADLINE
    try:
        return [process.wait(max(0.0, deadline - time.monotonic())) for process in processes]
    except subprocess.TimeoutExpired:
        pytest.fail(f"not at the end in time: {output_of(folder)}")


def assert_every_batch_once(folder):
    slots = RunDirectory(folder / "run").read_batches()
    sizes = slots.groupby(["epoch", "batch"]).size()
    assert len(sizes) == CHANGES["trainer.max_epochs"] * (slots["batch"].max() + 1)
    assert set(sizes) == {CHANGES["data.sampler.batch_size"]}
    assert slots["rank"].nunique() == 2


def test_a_run_of_lightnings_launcher_stops_when_its_first_process_is_asked(make_project, tmp_path):
    """A batch system or a supervisor knows the process that it started, and no other."""
    make_project(tmp_path, **CHANGES)
    fit = [sys.executable, "-m", "viscy_train", *FIT, "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    with launched(tmp_path, [(fit, {})]) as processes:
        wait_for_steps(tmp_path, processes)
        processes[0].terminate()
        assert end(tmp_path, processes) == [EXIT_STOPPED], output_of(tmp_path)
    assert "Traceback" not in output_of(tmp_path)
    with launched(tmp_path, [(fit, {})]) as processes:
        assert end(tmp_path, processes) == [0], output_of(tmp_path)
    assert_every_batch_once(tmp_path)


@contextlib.contextmanager
def network_namespaces():
    """Make two networks that reach each other through one cable, as two machines do; skip where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2")
    names = [f"viscy-{os.getpid()}-{number}" for number in range(2)]
    cables = [f"veth{os.getpid() % 10**7}{side}" for side in "ab"]
    addresses = ["10.213.47.1", "10.213.47.2"]

    def ip(*words):
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip(
                "link",
                "add",
                cables[0],
                "netns",
                names[0],
                "type",
                "veth",
                "peer",
                "name",
                cables[1],
                "netns",
                names[1],
            )
            for name, cable, address in zip(names, cables, addresses, strict=True):
                ip("-n", name, "address", "add", f"{address}/24", "dev", cable)
                for device in (cable, "lo"):
                    ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs network namespaces: {error.stderr.strip()}")
        yield [
            Node(address, ["ip", "netns", "exec", name], {"GLOO_SOCKET_IFNAME": cable})
            for name, cable, address in zip(names, cables, addresses, strict=True)
        ]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@contextlib.contextmanager
def one_machine():
    """Let this machine be both."""
    yield [Node(), Node()]


@pytest.mark.parametrize("two_nodes", [one_machine, network_namespaces])
def test_a_run_of_torchrun_on_two_nodes_stops_when_one_is_asked_and_goes_on(make_project, tmp_path, two_nodes):
    make_project(tmp_path, **CHANGES)
    with two_nodes() as nodes:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            endpoint = f"{nodes[0].address}:{probe.getsockname()[1]}"
        torchrun = ["torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
        trained = ["viscy_train", *FIT, "--trainer.num_nodes", "2", "--trainer.devices", "1"]
        commands = [
            (
                [
                    *node.command,
                    sys.executable,
                    *("-m", *torchrun, "--rdzv-endpoint", endpoint, "--local-addr", node.address),
                    # Where hostnames have addresses, as on a cluster, torchrun finds out which of them it runs on.
                    *("--rdzv-conf", f"is_host={node is nodes[0]}"),
                    *("-m", *trained),
                ],
                node.environment,
            )
            for node in nodes
        ]
        with launched(tmp_path, commands) as processes:
            wait_for_steps(tmp_path, processes)
            processes[1].terminate()
            codes = end(tmp_path, processes)
            assert all(codes), output_of(tmp_path)
        assert "stopped as asked after step" in output_of(tmp_path)
        with launched(tmp_path, commands) as processes:
            assert end(tmp_path, processes) == [0, 0], output_of(tmp_path)
    assert_every_batch_once(tmp_path)
