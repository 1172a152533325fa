"""`launch.processes`: what it refuses, what it trains, and how it stops."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from socket import socket

import pytest
import torch

from facerec.cli.main import main
from facerec.runs.checkpoints import step_directories
from tests.distributed.launches import children_of, launch_overrides, torchrun, workers_of
from tests.integration.training_runs import (
    NUM_STEPS,
    Process,
    environment,
    has_ended,
    last_step,
    result_bits,
    run,
    start,
    tiny_overrides,
)

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the tests look into /proc")

ENDLESS = "trainer.num_steps=100000"


def refused(overrides: list[str], capsys) -> str:
    """The one message with which a command is refused."""
    with pytest.raises(SystemExit) as stop:
        main(["train", *overrides])
    printed = capsys.readouterr()
    assert stop.value.code == 2 and printed.out == "" and printed.err.count("error: ") == 1
    return printed.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["launch.processes=0"], "launch.processes=0; expected a positive number"),
        (["launch.processes=two"], "launch.processes='two' is text; expected a whole number"),
        (["launch.processes=2", "launch.gpus=2"], "launch.processes=2 and launch.gpus=2 are both set"),
        (["launch.gpus=1"], "launch.gpus=1 gives each process its own GPU, but trainer.device=cpu does not"),
        (["launch.gpus=99", "trainer.device=auto"], f"launch.gpus=99, but torch finds {torch.cuda.device_count()}"),
        (["launch.processes=2", "trainer.device=cuda"], "launch.processes=2 works on the CPU, trainer.device=cuda on"),
        (["launch.max_restarts=-1"], "launch.max_restarts=-1; expected 0 or more"),
        (["launch.timeout_minutes=0"], "launch.timeout_minutes=0.0; expected a positive number"),
        (["launch.nodes=2"], "launch.nodes"),
        (["launch.processes=2", "head.m2=O.45"], "head.m2='O.45' is text"),
        (["checkpoint.every_minutes=0"], "checkpoint.every_minutes=0.0; expected a positive number"),
    ],
)
def test_what_cannot_work_is_refused_before_any_process_starts(given, message, faces, tmp_path, capsys):
    assert message in refused(tiny_overrides(faces, tmp_path / "run", *given), capsys)
    assert not (tmp_path / "run").exists()


def test_under_torchrun_nothing_is_launched_again(faces, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    overrides = tiny_overrides(faces, tmp_path / "run", "launch.processes=2")
    assert "launch.processes=2 under torchrun, which has started the processes" in refused(overrides, capsys)
    assert "-m under torchrun" in refused(["-m", *overrides], capsys)


def test_two_processes_train_as_two_of_torchrun_stop_on_a_signal_and_go_on(faces, torchrun_bits, starter, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    overrides = launch_overrides(faces, run_dir)
    process = starter.start(overrides, log)
    process.wait_until(lambda: last_step(run_dir) >= 7)
    workers = workers_of(process.pid)
    assert sorted(workers) == [0, 1]
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait() == 0, log.read_text()
    printed = log.read_text()
    assert printed.count("SIGUSR1: stopping at the end of this step, with a checkpoint") == 1
    assert "Traceback" not in printed and "Warning" not in printed and "restart" not in printed
    stopped_at = int(re.search(r"stopped at step (\d+) with a checkpoint; to resume:", printed)[1])
    assert 7 <= stopped_at < NUM_STEPS
    assert step_directories(run_dir / "checkpoints")[-1].name == f"step-{stopped_at:08d}"
    assert json.loads((run_dir / "preempted").read_text()) == {"step": stopped_at, "signal": "SIGUSR1"}
    assert all(map(has_ended, workers.values()))
    log.unlink()
    printed = run(starter.start, [f"run_dir={run_dir}"], log)  # launch.processes is stored too
    assert f"resuming from {run_dir}/checkpoints/step-{stopped_at:08d}" in printed and "not bit-exact" not in printed
    assert printed.count("network iresnet") == 1 and printed.count("next         ") == 1  # the first alone tells
    assert "Traceback" not in printed and "Warning" not in printed and "W1" not in printed
    assert not (run_dir / "preempted").exists()
    assert result_bits(run_dir) == torchrun_bits


def test_killed_launcher_leaves_no_process(faces, starter, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = starter.start(launch_overrides(faces, run_dir, ENDLESS, "loader.num_workers=1"), log)
    process.wait_until(lambda: last_step(run_dir) >= 5)  # after the first checkpoint they need the launcher no more
    pids = [pid for worker in workers_of(process.pid).values() for pid in (worker, *children_of(worker))]
    assert len(pids) == 4
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 20  # a reader of images looks every 5 s whether it is still needed
    while not all(map(has_ended, pids)):
        assert time.monotonic() < deadline, [pid for pid in pids if not has_ended(pid)]
        time.sleep(0.05)


def test_checkpoints_by_the_clock(faces, tmp_path, capsys):
    num_threads = torch.get_num_threads()
    by_clock = ["checkpoint.every_steps=null", "checkpoint.every_minutes=0.0001", "checkpoint.keep_last=9"]
    main(["train", *tiny_overrides(faces, tmp_path / "run", "trainer.num_steps=3", *by_clock)])
    torch.set_num_threads(num_threads)
    names = [path.name for path in step_directories(tmp_path / "run" / "checkpoints")]
    assert names == ["step-00000001", "step-00000002", "step-00000003"]


@pytest.mark.slow
def test_second_ctrl_c_ends_all_processes_at_once(faces, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    process = start(launch_overrides(faces, run_dir), log)
    process.wait_until(lambda: last_step(run_dir) >= 3)
    workers = workers_of(process.pid)
    os.kill(process.pid, signal.SIGINT)
    process.wait_until(lambda: "SIGINT: stopping at the end of this step" in log.read_text())
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130 and "interrupted" in log.read_text() and "Traceback" not in log.read_text()
    assert all(map(has_ended, workers.values())) and not (run_dir / "preempted").exists()


@pytest.mark.slow
def test_killed_grid_leaves_no_process(faces, tmp_path):
    root, log = tmp_path / "grid", tmp_path / "log"
    process = start(["-m", *launch_overrides(faces, root, ENDLESS), "seed=1,2"], log)
    process.wait_until(lambda: any(last_step(run_dir) >= 5 for run_dir in root.glob("*")))
    (trial,) = children_of(process.pid)
    pids = [trial, *workers_of(trial).values()]
    assert len(pids) == 3
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    time.sleep(1)
    assert all(map(has_ended, pids))


@pytest.mark.slow
def test_torchrun_passes_sigusr1_on(faces, tmp_path):
    run_dir, log = tmp_path / "run", tmp_path / "log"
    overrides = launch_overrides(faces, run_dir, "launch.processes=null", "loader.num_workers=1")
    process = torchrun(overrides, log, "--signals-to-handle=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1")
    process.wait_until(lambda: last_step(run_dir) >= 3)
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait() != 0  # as torchrun ends after any signal
    assert json.loads((run_dir / "preempted").read_text())["signal"] == "SIGUSR1"
    assert log.read_text().count("SIGUSR1: stopping at the end of this step") == 1


@pytest.mark.slow
def test_two_agents_train_as_two_machines_and_start_again_when_a_process_of_one_dies(faces, torchrun_bits, tmp_path):
    """As docs/distributed.md says; only that both machines are this one."""
    run_dir = tmp_path / "run"
    overrides = launch_overrides(faces, run_dir, "launch.processes=null")
    with socket() as free:
        free.bind(("localhost", 0))
        endpoint = f"localhost:{free.getsockname()[1]}"
    rendezvous = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=1"]
    command = [sys.executable, "-m", "torch.distributed.run", *rendezvous, "--nproc-per-node=1", "--max-restarts=2"]
    variables = environment() | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    agents, logs = [], [tmp_path / "log_0", tmp_path / "log_1"]
    for log in logs:
        with open(log, "ab") as output:
            arguments = [*command, "-m", "facerec", "train", *overrides]
            agents.append(subprocess.Popen(arguments, stdout=output, stderr=output, env=variables))
    first = Process(pid=agents[0].pid, wait=lambda: agents[0].wait(120), log=logs[0])
    first.wait_until(lambda: last_step(run_dir) >= 5)
    workers = [workers_of(agent.pid) for agent in agents]
    assert sorted(rank for found in workers for rank in found) == [0, 1] and all(len(found) == 1 for found in workers)
    os.kill(next(iter(workers[1].values())), signal.SIGKILL)
    assert [agent.wait(120) for agent in agents] == [0, 0], "".join(log.read_text() for log in logs)
    assert any("resuming from" in log.read_text() for log in logs)
    assert result_bits(run_dir) == torchrun_bits


@pytest.mark.slow
def test_slurm_script_saves_when_asked_queues_itself_again_and_goes_on(faces, torchrun_bits, tmp_path):
    """With programs in the place of SLURM's that run the command here, and write down what is queued."""
    run_dir, log = tmp_path / "run", tmp_path / "log"
    programs = {
        "srun": 'while [[ $1 == --* ]]; do shift; done\nexec "$@"',
        "scontrol": f'[[ $1 == show ]] && echo localhost || echo "$@" >> {tmp_path / "queue"}',
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
    }
    for name, text in programs.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {
        "JOB_ID": str(os.getpid()),
        "JOB_NODELIST": "here",
        "NNODES": "1",
        "GPUS_ON_NODE": "2",
        "CPUS_PER_TASK": "2",
    }
    variables = environment() | {f"SLURM_{name}": value for name, value in slurm.items()}
    variables["PATH"] = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    script = Path(__file__).parents[2] / "scripts" / "slurm" / "train.sbatch"
    overrides = [o for o in launch_overrides(faces, run_dir, "launch.processes=null") if not o.startswith("run_dir=")]

    def submit(*overrides: str) -> Process:
        with open(log, "ab") as output:
            job = subprocess.Popen(["bash", script, run_dir, *overrides], stdout=output, stderr=output, env=variables)
        return Process(pid=job.pid, wait=lambda: job.wait(120), log=log)

    job = submit(*overrides)
    job.wait_until(lambda: last_step(run_dir) >= 3)
    os.kill(job.pid, signal.SIGUSR1)
    assert job.wait() != 0
    assert (run_dir / "preempted").exists(), log.read_text()
    assert (tmp_path / "queue").read_text() == f"requeue {os.getpid()}\n"
    assert submit().wait() == 0, log.read_text()  # each of torchrun's processes reads the stored overrides
    assert not (run_dir / "preempted").exists() and "resuming from" in log.read_text()
    assert len((tmp_path / "queue").read_text().splitlines()) == 1
    assert result_bits(run_dir) == torchrun_bits
