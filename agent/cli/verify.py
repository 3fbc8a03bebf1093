"""`vitrine verify`: every object there, every hash right; with the keys that are at hand."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from agent.cli.output import (
    console,
    counted,
    json_option,
    print_json,
    progress_bar,
    size,
    styled,
)
from agent.cli.place import client, config_dir_option
from agent.clock import SystemClock
from agent.config import AgentConfig, AgentVaultConfig, GateConfig, GateVaultConfig, load
from agent.control.messages import Progress
from agent.crypto.keyfiles import load_keys
from agent.crypto.secrets import ReaderKeys, WriterKeys
from agent.errors import ObjectDamaged
from agent.model.ids import VaultId
from agent.repository.findings import Report
from agent.repository.verify import verify as verify_repository
from agent.store.local import LocalStore


@click.command()
@click.argument(
    "repository", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--read-data", is_flag=True, help="Read every byte and compare it with its name.")
@json_option
@config_dir_option
def verify(repository: Path | None, read_data: bool, as_json: bool, config_dir: Path) -> None:
    """Check that every object is there and is what its name says.

    With a configuration, its keys also check chains and indexes.  Given REPOSITORY instead, no
    key is used.
    """
    keys: dict[VaultId, ReaderKeys | WriterKeys] = {}
    if repository is None:
        repository = Path(client(config_dir).repository)
        keys = dict(_keys(config_dir))
    unit = "bytes" if read_data else "objects"
    began = SystemClock().monotonic()
    store = LocalStore(repository.absolute())
    try:
        with progress_bar() as show:
            report = verify_repository(
                store,
                keys=keys,
                read_data=read_data,
                on_progress=lambda done, total: show(Progress("verifying", done, total, unit)),
            )
    finally:
        store.close()
    _show(report, len(keys), SystemClock().monotonic() - began, as_json)


def _keys(config_dir: Path) -> Iterator[tuple[VaultId, ReaderKeys | WriterKeys]]:
    """Yield the keys that whoever asks may read: the gate's say more, so they come last."""
    agent, gate = config_dir / "agent.toml", config_dir / "gate.toml"
    if os.access(agent, os.R_OK):
        for path in _readable(load(agent, AgentConfig).vault):
            writer = load_keys(path, WriterKeys)
            yield writer.vault, writer
    if os.access(gate, os.R_OK):
        for path in _readable(load(gate, GateConfig).vault):
            reader = load_keys(path, ReaderKeys)
            yield reader.vault, reader


def _readable(vaults: Sequence[AgentVaultConfig | GateVaultConfig]) -> Iterator[Path]:
    return (path for path in (Path(vault.keys) for vault in vaults) if os.access(path, os.R_OK))


def _show(report: Report, vaults: int, seconds: float, as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        depth = f"with the keys of {counted(vaults, 'vault')}" if vaults else "without keys"
        console.print(
            f"{counted(report.packs, 'pack')}, {counted(report.indexes, 'index', 'indexes')}, "
            f"{counted(report.snapshots, 'snapshot')}; {size(report.read_bytes)} read "
            f"in {seconds:.1f} s, {depth}."
        )
        for finding in report.findings:
            said = finding.problem.removeprefix(finding.name).lstrip()
            console.print(styled("bold red", finding.name), said)
            console.print(f"    {finding.advice}")
    if not report.is_clean:
        count = len(report.findings) + report.more_findings
        raise ObjectDamaged(
            f"damaged, missing or misplaced: {counted(count, 'object')}",
            hint="each is named above with what to do; undamaged snapshots still open",
        )
    if not as_json:
        console.print(styled("green", "Everything is as it should be."))
