"""Maintenance opens what `vitrine init` made for it, with a keyslot and an audit of its own."""

from pathlib import Path

import pytest

from agent.audit.verify import verify_chain
from agent.cli.founding import Administrator, NewVault, Places, found_gate, found_vault
from agent.clock import SystemClock
from agent.config import SourceConfig
from agent.crypto.keyslots import CREDENTIAL
from agent.errors import ConfigInvalid, NotFound, WrongKey
from agent.maintained import opened
from agent.repository import layout, vaults

PASSPHRASE = "a long enough recovery passphrase"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return maintenance.toml of a new installation with one vault."""
    places = Places.of(tmp_path / "etc", tmp_path / "repository")
    people = Administrator("admin", 1000, ("it-administrator",), "it", "correct horse battery")
    found_gate(places, people, SystemClock())
    source = SourceConfig(str(tmp_path / "source"))
    vault = NewVault("radiology", "imaging", 4, (source,), PASSPHRASE)
    found_vault(places, vault, 5.0, SystemClock())
    return places.file("maintenance.toml")


def test_it_opens_every_vault_by_its_own_keyslot(config: Path) -> None:
    """At rest it holds what finds; its credential unwraps what opens and signs."""
    with opened(config) as work:
        keys = work.vault("radiology")
        assert work.secrets(keys).reader() == keys
        with pytest.raises(NotFound, match="cardiology"):
            work.vault("cardiology")


def test_its_keyslot_can_be_taken_away_alone(config: Path) -> None:
    """Without its slot it opens nothing, while the gate's slot and the custodian's stay."""
    with opened(config) as work:
        keys = work.vault("radiology")
        for slot in list(vaults.slots(work.store, keys.vault)):
            if slot.kind == CREDENTIAL and slot.label == "maintenance":
                work.store.delete(layout.slot(keys.vault, slot.slot))
        with pytest.raises(WrongKey):
            work.secrets(keys)
        left = {slot.label for slot in vaults.slots(work.store, keys.vault)}
    assert left == {"gate", "recovery"}


def test_only_one_run_at_a_time(config: Path) -> None:
    """A second run is refused while the first holds the state."""
    with (
        opened(config),
        pytest.raises(ConfigInvalid, match="under way"),
        opened(config),
    ):
        pass


def test_its_audit_is_a_chain_that_goes_on(config: Path) -> None:
    """Each run opens and closes the same chain, which verifies."""
    with opened(config) as work:
        state = work.state
    with opened(config):
        pass
    assert verify_chain(state.audit, state.signer.verify_key()).records >= 5
