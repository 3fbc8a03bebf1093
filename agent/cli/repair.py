"""`vitrine repair`: heals what is damaged; `vitrine parity`: makes what it heals from."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import counted, json_option, number, print_json, size
from agent.cli.place import client, config_dir_option
from agent.cli.progress import progress_bar
from agent.cli.terminal import console, styled
from agent.control.hardening import REPOSITORY_UMASK, harden
from agent.control.messages import Progress
from agent.crypto.secrets import ReaderKeys
from agent.errors import ConfigInvalid, ObjectDamaged, ObjectExists
from agent.maintained import Maintenance, maintenance
from agent.maintenance.contents import ContentsReport, look_for_contents
from agent.maintenance.parity import ParityReport, make_missing
from agent.maintenance.repair import Caches, Repair, RepairReport
from agent.maintenance.state import ACTOR
from agent.model.ids import SHORT_HEX, PackId, VaultId
from agent.repository import layout
from agent.repository.genuine import Genuine
from agent.repository.indexcache import IndexCache
from agent.repository.vaults import open_repository
from agent.store.base import Store
from agent.store.local import LocalStore

_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("repository", required=False, type=_DIRECTORY)
@click.option("--from", "copy", type=_DIRECTORY, help="A copy of it, for what parity cannot heal.")
@click.option("--drop-damaged", is_flag=True,
              help="Put aside packs that nothing heals, and forget them.")  # fmt: skip
@json_option
@config_dir_option
def repair(
    repository: Path | None, copy: Path | None, drop_damaged: bool, as_json: bool, config_dir: Path
) -> None:
    """Read everything, and heal what is damaged.

    From its parity, else from a copy; indexes are made again from the packs.  Given REPOSITORY, no
    key is used: then indexes are not made again, and nothing is put aside.
    """
    if repository is not None and drop_damaged:
        raise ConfigInvalid(
            "without keys no index can be made to forget a pack",
            hint="leave REPOSITORY out, on the host of maintenance",
        )
    with _opened(copy) if copy else nullcontext() as second:
        if repository is None:
            with maintenance(config_dir / "maintenance.toml") as work:
                report, lacking = _maintained(work, second, drop=drop_damaged)
        else:
            lacking = []
            harden(REPOSITORY_UMASK)
            with _opened(repository) as store:
                report = _repair(store, {}, _no_caches, second, drop=False)
    if as_json:
        print_json({"repair": report, "lacking": lacking})
    else:
        _show(report, lacking)
    _raise_lost(report)


@click.command()
@click.argument("repository", required=False, type=_DIRECTORY)
@json_option
@config_dir_option
def parity(repository: Path | None, as_json: bool, config_dir: Path) -> None:
    """Make parity for all that has none, without a key: in a copy, say.

    In REPOSITORY, by default the one that is configured, where maintenance does it every night.
    """
    place = Path(client(config_dir).repository) if repository is None else repository
    harden(REPOSITORY_UMASK)
    with _opened(place) as store, progress_bar() as show:
        open_repository(store)
        report = make_missing(
            store,
            Genuine(store),
            budget_bytes=1 << 62,
            on_progress=lambda done, total: show(Progress("parity", done, total, "bytes")),
        )
    if as_json:
        print_json(report)
    else:
        _show_parity(report)
    if report.damaged:
        raise ObjectDamaged(
            f"damaged, so no parity was made: {counted(len(report.damaged), 'object')}",
            hint="run `vitrine repair` with --from and a copy",
        )


def _maintained(
    work: Maintenance, second: Store | None, *, drop: bool
) -> tuple[RepairReport, list[ContentsReport]]:
    """Repair with keys, on the record; look for what the newest snapshots lack."""
    keys = {one.vault: one for one in work.vaults.values()}
    report = _repair(work.store, keys, work.index, second, drop=drop)
    work.audit.append(
        Event.REPOSITORY_REPAIRED,
        Outcome.FAILED if report.lost or report.more else Outcome.SUCCESS,
        actor=ACTOR,
        details={
            "damaged": report.damaged,
            "from_parity": len(report.from_parity),
            "from_copy": len(report.from_copy),
            "made_again": len(report.made_again),
            "indexed_packs": report.indexed_packs,
            "put_aside": len(report.put_aside),
            "lost": len(report.lost),
        },
    )
    gone = {layout.pack_id(name) for name in (*report.lost, *report.put_aside)} - {None}
    lost = frozenset(PackId(pack) for pack in gone if pack is not None)
    return report, list(_lacking(work, lost)) if lost else []


def _lacking(work: Maintenance, lost: frozenset[PackId]) -> Iterator[ContentsReport]:
    for keys in work.vaults.values():
        index, reader = work.index(keys).refresh(), work.reader(keys)
        for info in work.newest(keys):
            yield look_for_contents(reader, index, info.id, info.snapshot.root, lost)


def _repair(
    store: Store, keys: Mapping[VaultId, ReaderKeys], caches: Caches, second: Store | None,
    *, drop: bool,
) -> RepairReport:  # fmt: skip
    if second is not None and open_repository(second).id != open_repository(store).id:
        raise ObjectExists("at --from lies another repository, no copy of this one")
    with progress_bar() as show:
        return Repair(store, keys, caches, second).run(
            lambda done, total: show(Progress("verifying", done, total, "bytes")), drop=drop
        )


def _no_caches(keys: ReaderKeys) -> IndexCache:
    raise ConfigInvalid(f"no index copies for {keys.name}")


@contextmanager
def _opened(path: Path) -> Iterator[LocalStore]:
    store = LocalStore(path.absolute())
    try:
        yield store
    finally:
        store.close()


def _show(report: RepairReport, lacking: list[ContentsReport]) -> None:
    if not report.damaged and not report.finished:
        console.print(styled("green", "Nothing is damaged."))
        return
    lines = (
        (len(report.from_parity), "healed from parity"),
        (len(report.from_copy), "brought back from the copy"),
        (len(report.made_again), "parity made again"),
        (report.indexed_packs, "packs indexed again"),
        (report.finished, "repairs of an earlier run finished"),
        (len(report.put_aside), "put aside: `vitrine snapshot --reread` stores again what is left"),
    )
    console.print(f"{counted(report.damaged, 'object')} not as it should be:")
    for count, what in lines:
        if count:
            console.print(f"  {number(count)} {what}")
    for name in report.put_aside:
        console.print(styled("yellow", name), "put aside")
    for name in report.lost:
        console.print(styled("bold red", name), "lost")
    for one in lacking:
        console.print(
            f"snapshot {one.snapshot[:SHORT_HEX]}: {number(one.lacking)} of "
            f"{counted(one.files, 'file')} lack something, {number(one.lost_pages)} pages lost"
        )


def _show_parity(report: ParityReport) -> None:
    console.print(
        f"parity for {counted(report.made, 'object')}, {size(report.made_bytes)}, "
        f"made of {size(report.read_bytes)}"
    )
    for name in report.damaged:
        console.print(styled("bold red", name), "damaged")


def _raise_lost(report: RepairReport) -> None:
    if report.more:
        raise ObjectDamaged(
            f"{report.more} more objects are damaged than one run looks at", hint="run it again"
        )
    if report.lost:
        raise ObjectDamaged(
            f"neither parity nor a copy heals {counted(len(report.lost), 'object')}",
            hint="docs/repair.md says what is left to do: --from, --drop-damaged",
        )
