"""`vitrine up`: how it starts what it runs."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from agent.cli import up


async def test_services_are_started_by_the_thread_that_lives_as_long_as_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A service dies with the thread that started it (prctl(2)); a worker thread would not stay."""
    starters: list[threading.Thread] = []

    class Popen:
        pid = 0

        def __init__(self, *_: object, **__: object) -> None:
            starters.append(threading.current_thread())

    monkeypatch.setattr(subprocess, "Popen", Popen)
    monkeypatch.setattr(os, "pidfd_open", lambda _: -1)
    up.start(tmp_path, "agent")
    assert starters == [threading.current_thread()]
