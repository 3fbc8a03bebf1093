"""When every byte of the repository was last read, as maintenance remembers it."""

import os
from pathlib import Path

from rich.text import Text

from agent.cli.output import ago, counted
from agent.cli.terminal import styled
from agent.config import MaintenanceConfig, load
from agent.maintenance.rotationstate import FILE, PARTS, Rotation
from agent.maintenance.rotationstate import load as load_rotation


def last_verification(config_dir: Path) -> Rotation | None:
    """Return what is remembered, or None where whoever asks may not know, or there is nothing."""
    path = config_dir / "maintenance.toml"
    if not os.access(path, os.R_OK):
        return None
    state = Path(load(path, MaintenanceConfig).state_dir) / FILE
    return load_rotation(state) if os.access(state, os.R_OK) else None


def described(rotation: Rotation) -> tuple[Text, str]:
    """Return it in a line: how it stands, and since when."""
    if rotation.lost:
        state = styled("bold red", f"{counted(rotation.lost, 'object')} damaged, and not healed")
    else:
        state = styled("green", "clean")
    if rotation.is_complete:
        return state, f"· every byte was read; the first of them {ago(rotation.since_ns)}"
    read = sum(part.read_ns > 0 for part in rotation.parts)
    return state, f"· {read} of {PARTS} parts read so far, one a day"
