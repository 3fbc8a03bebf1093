"""`vitrine verify`: every object there, every hash right; with the keys that are at hand."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from agent.cli.lastverify import described, last_verification
from agent.cli.output import counted, json_option, number, print_json, size
from agent.cli.place import client, config_dir_option
from agent.cli.progress import progress_bar
from agent.cli.terminal import console, styled
from agent.cli.upkeep import check_contents
from agent.cli.upkeep import rotate as rotate_once
from agent.clock import SystemClock
from agent.config import AgentConfig, AgentVaultConfig, GateConfig, GateVaultConfig, load
from agent.control.messages import Progress
from agent.crypto.keyfiles import load_keys
from agent.crypto.secrets import ReaderKeys, WriterKeys
from agent.errors import ConfigInvalid, NotFound, ObjectDamaged
from agent.maintained import maintenance
from agent.maintenance.contents import ContentsReport
from agent.maintenance.rotation import RotationReport
from agent.maintenance.rotationstate import PARTS
from agent.model.ids import SHORT_HEX, VaultId
from agent.repository.findings import Report
from agent.repository.verify import verify as verify_repository
from agent.store.local import LocalStore


@click.command()
@click.argument(
    "repository", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option("--read-data", is_flag=True, help="Read every byte and compare it with its name.")
@click.option("--rotate", is_flag=True, help="Read the thirtieth that is due, and heal it.")
@click.option("--last", is_flag=True, help="Say when every byte was last read; read nothing now.")
@click.option("--contents", "vault", metavar="VAULT", help="Compare the hash of every file in it.")
@click.option("--snapshot", default="", metavar="ID",
              help="With --contents: of this one; else of each host's newest.")  # fmt: skip
@json_option
@config_dir_option
def verify(  # noqa: PLR0913, PLR0917 - one parameter an option
    repository: Path | None,
    read_data: bool,
    rotate: bool,
    last: bool,
    vault: str | None,
    snapshot: str,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Check that every object is there and is what its name says.

    With a configuration, its keys also check chains and indexes.  Given REPOSITORY instead, no
    key is used.  --rotate, --last and --contents are maintenance's: they need its files.
    """
    if sum((repository is not None or read_data, rotate, last, vault is not None)) > 1:
        raise ConfigInvalid(
            "--rotate, --last, --contents, and REPOSITORY or --read-data: one at a time"
        )
    if snapshot and vault is None:
        raise ConfigInvalid("--snapshot belongs to --contents")
    if last:
        _show_last(config_dir, as_json)
    elif rotate or vault is not None:
        _by_maintenance(vault, snapshot, as_json, config_dir)
    else:
        _by_anyone(repository, read_data, as_json, config_dir)


def _by_maintenance(vault: str | None, snapshot: str, as_json: bool, config_dir: Path) -> None:
    with maintenance(config_dir / "maintenance.toml") as work:
        if vault is None:
            _show_rotation(rotate_once(work), as_json)
        else:
            _show_contents(check_contents(work, vault, snapshot), as_json)


def _by_anyone(repository: Path | None, read_data: bool, as_json: bool, config_dir: Path) -> None:
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


def _show_last(config_dir: Path, as_json: bool) -> None:
    rotation = last_verification(config_dir)
    if rotation is None:
        raise NotFound(
            "no verification is remembered, or not for whoever asks",
            hint="maintenance reads a thirtieth every night: `vitrine verify --rotate`",
        )
    if as_json:
        print_json(rotation)
    else:
        console.print(*described(rotation))
    if rotation.lost:
        raise ObjectDamaged(
            f"known to be damaged: {counted(rotation.lost, 'object')}",
            hint="run `vitrine repair`, with --from where there is a copy",
        )


def _show_rotation(report: RotationReport, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    console.print(
        f"part {', '.join(str(part + 1) for part in report.parts)} of {PARTS}: "
        f"{counted(report.objects, 'object')}, {size(report.read_bytes)} read, "
        f"{number(len(report.healed))} healed"
    )
    console.print(*described(report.rotation))


def _show_contents(reports: Sequence[ContentsReport], as_json: bool) -> None:
    if as_json:
        print_json(reports)
    else:
        for one in reports:
            console.print(
                f"snapshot {one.snapshot[:SHORT_HEX]}: {counted(one.files, 'file')}, "
                f"{size(one.bytes)}; {number(one.different)} differ, {number(one.lacking)} lack "
                f"something, {number(one.lost_pages)} pages lost, {number(one.unhashed)} were "
                "unreadable when they were backed up"
            )
    if not all(one.is_whole for one in reports):
        raise ObjectDamaged(
            "not every file can be read as it was backed up",
            hint="run `vitrine repair`; a restore says which files those are",
        )
    if not as_json:
        console.print(styled("green", "Every file is as it was backed up."))


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
