"""What a command loads: half of what a short one takes is loading, so it loads what it uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import ClientConfig, save
from tests.fakes.agents import AgentOnDisk

LOOP = {"trio", "ssl"}
TABLES = {"rich"}
STORES = {"cryptography", "zstandard", "sqlite3", "blake3"}
NEVER = {"asyncio", "email", "http", "unittest", "pydicom", "numpy", "importlib.metadata"}
LISTED = "import sys; print(*sys.modules)"


def loaded(code: str) -> set[str]:
    """Return the modules that a process has loaded once it has run some code."""
    said = subprocess.run(
        [sys.executable, "-c", f"{code}\n{LISTED}"], capture_output=True, text=True, check=True
    )
    return set(said.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("command", "unused"),
    [
        ("main", LOOP | TABLES | STORES | {"msgspec"}),
        ("unlock", LOOP | TABLES | STORES),
        ("restore", LOOP | TABLES | STORES),
        ("status", LOOP | STORES),
        ("timeline", LOOP | STORES),
        ("browse", LOOP | STORES),
        ("sessions", LOOP | STORES),
        ("recover", LOOP | TABLES | {"sqlite3"}),
        ("verify", LOOP | {"sqlite3"}),
        ("prune", LOOP | {"sqlite3"}),
        ("maintain", LOOP | {"sqlite3"}),
        (
            "snapshot",
            LOOP | TABLES | {"watchdog", "pathspec", "pyfastcdc", "subprocess", "hashlib"},
        ),
    ],
)
def test_command_loads_what_it_uses(command: str, unused: set[str]) -> None:
    """Neither a library that it needs not, nor one that comes along with another."""
    assert not loaded(f"import agent.cli.main, agent.cli.{command}") & (unused | NEVER)


def test_snapshot_of_a_source_that_rests_needs_no_loop_and_no_chunker(tmp_path: Path) -> None:
    """From beginning to end: nothing is loaded on the way either."""
    agent = AgentOnDisk(tmp_path)
    (agent.source / "image").write_bytes(b"pixels")
    save(
        tmp_path / "client.toml", ClientConfig(str(agent.repository), str(tmp_path / "none")), 0o600
    )
    command = ["snapshot", "--config-dir", str(tmp_path)]
    code = f"from agent.cli.main import run\nassert run({command!r}) == 0"
    first, again = loaded(code), loaded(code)
    assert {"trio", "pyfastcdc"} <= first
    assert not again & (LOOP | TABLES | NEVER | {"watchdog", "pathspec", "pyfastcdc"})
    agent.store.close()
