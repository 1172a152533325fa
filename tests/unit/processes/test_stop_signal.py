"""Signals ask for a stop; only a second Ctrl-C is impatient."""

import os
import signal

import pytest

from facerec.processes.stop_signal import STOP_FILE, StopSignal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_first_signal_is_a_request_and_is_acknowledged(number, capfd):
    with StopSignal() as stop:
        assert stop.requested is None
        os.kill(os.getpid(), number)
        assert stop.requested == number.name
    assert f"{number.name}: stopping at the end of this step, with a checkpoint" in capfd.readouterr().err


def test_second_sigterm_changes_nothing():
    with StopSignal() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_after_a_request_interrupts(first):
    with pytest.raises(KeyboardInterrupt), StopSignal():
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)


def test_file_of_a_launcher_is_a_request_which_the_launcher_announces(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    with StopSignal() as stop:
        assert stop.requested is None
        (tmp_path / "stop").write_text("SIGUSR1")
        assert stop.requested == "SIGUSR1"
        os.kill(os.getpid(), signal.SIGTERM)  # some schedulers signal all processes
        assert stop.requested == "SIGUSR1"
    assert capfd.readouterr().err == ""


def test_one_of_several_processes_says_nothing(capfd):
    with StopSignal(announce=False) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested == "SIGTERM"
    assert capfd.readouterr().err == ""


def test_handlers_are_put_back():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    with StopSignal():
        pass
    assert [signal.getsignal(number) for number in numbers] == before
