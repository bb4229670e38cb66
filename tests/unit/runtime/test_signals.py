"""A stop is asked for once; asked again it comes at once, whatever the process is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

CHILD = """
import ctypes, sys, time
from pipeline.runtime import signals
signals._SAME_ORDER_SECONDS = 0.5
request = signals.StopRequest()
print("ready", flush=True)
if sys.argv[1] == "waits":
    mutex = ctypes.create_string_buffer(64)  # locked twice: as in a collective, no instruction of Python's runs
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
    ctypes.CDLL(None).pthread_mutex_lock(mutex)
while not request.status:
    time.sleep(0.01)
print(request.status, request.name, flush=True)
time.sleep(30 if sys.argv[1] == "stays" else 0)
request.close()
"""


def start(what: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", CHILD, what], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 85), (signal.SIGUSR1, 85), (signal.SIGINT, 130)])
def test_the_first_signal_is_remembered(number: signal.Signals, status: int) -> None:
    process = start("ends")
    process.send_signal(number)
    output, _ = process.communicate(timeout=20)
    assert output == f"{status} {number.name}\n"
    assert process.returncode == 0


def test_the_same_order_twice_is_one_and_a_later_one_ends_at_once() -> None:
    process = start("stays")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 128 + signal.SIGTERM


def test_a_process_that_waits_for_others_ends_at_once_too() -> None:
    process = start("waits")
    os.kill(process.pid, signal.SIGUSR1)
    time.sleep(0.7)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGUSR1)
    assert process.wait(5) == 128 + signal.SIGUSR1
