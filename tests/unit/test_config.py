"""Configuration files: what is written can be read; what is wrong is named, with what is near."""

from pathlib import Path

import pytest

from agent.config import (
    AgentConfig,
    AgentVaultConfig,
    ClientConfig,
    GateConfig,
    LauncherConfig,
    SourceConfig,
    load,
    save,
)
from agent.errors import ConfigInvalid

AGENT = AgentConfig(
    repository="/srv/vitrine",
    state_dir="/var/lib/vitrine/agent",
    socket="/run/vitrine/agent.sock",
    vault=(
        AgentVaultConfig(
            "radiology",
            "/etc/vitrine/agent.keys/radiology.json",
            (
                SourceConfig("/var/lib/orthanc", exclude=("*.tmp",)),
                SourceConfig("/srv/ä 'quoted' \\ \"name\"", label="records", include=("*.xml",)),
            ),
        ),
    ),
    settle_seconds=2.5,
)


def written(tmp_path: Path, text: str) -> Path:
    """Return an agent.toml with this text."""
    path = tmp_path / "agent.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_saved_loads_as_it_was(tmp_path: Path) -> None:
    """Every kind of file, with quotes and letters that TOML has to escape."""
    save(tmp_path / "a.toml", AGENT, 0o640)
    assert load(tmp_path / "a.toml", AgentConfig) == AGENT
    assert (tmp_path / "a.toml").stat().st_mode & 0o777 == 0o640
    gate = GateConfig("/r", "/s", "/g.sock", "/l.sock", "/credential", ())
    save(tmp_path / "g.toml", gate, 0o640)
    assert load(tmp_path / "g.toml", GateConfig) == gate
    launcher = LauncherConfig("/l.sock", "/run/m")
    save(tmp_path / "l.toml", launcher, 0o640)
    assert load(tmp_path / "l.toml", LauncherConfig) == launcher
    client = ClientConfig("/r")
    save(tmp_path / "c.toml", client, 0o644)
    assert load(tmp_path / "c.toml", ClientConfig) == client


@pytest.mark.parametrize(
    ("wrong", "near"),
    [("setle_seconds = 1", "settle_seconds"), ("[[vault]]\nsorce = []", "source")],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tmp_path: Path, wrong: str, near: str
) -> None:
    """A misspelt key must not be a default in silence."""
    required = 'repository = "/r"\nstate_dir = "/s"\nsocket = "/x"\n'
    with pytest.raises(ConfigInvalid) as caught:
        load(written(tmp_path, required + wrong), AgentConfig)
    assert wrong.split(" = ", maxsplit=1)[0].rsplit("\n", 1)[-1] in caught.value.message
    assert near in caught.value.hint


@pytest.mark.parametrize("text", ["", "repository = 5", "not toml", 'repository = "\\ud800"'])
def test_what_is_missing_of_another_kind_or_no_toml_is_an_error(tmp_path: Path, text: str) -> None:
    """The message names the file."""
    with pytest.raises(ConfigInvalid, match=r"agent\.toml"):
        load(written(tmp_path, text), AgentConfig)


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    """The hint is the next step."""
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path / "agent.toml", AgentConfig)
    assert "vitrine init" in caught.value.hint


@pytest.mark.parametrize("limit", ["settle_seconds = -1", "scan_interval_seconds = 0"])
def test_times_that_would_spin_are_refused(tmp_path: Path, limit: str) -> None:
    """The message names the key."""
    required = 'repository = "/r"\nstate_dir = "/s"\nsocket = "/x"\nvault = []\n'
    load(written(tmp_path, required), AgentConfig)
    with pytest.raises(ConfigInvalid, match=limit.split(" ", maxsplit=1)[0]):
        load(written(tmp_path, required + limit), AgentConfig)
