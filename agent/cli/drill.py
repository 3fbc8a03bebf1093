"""`vitrine drill`: a recovery rehearsed, measured and signed, before one is needed."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from agent.audit.records import Event, Outcome
from agent.cli.output import json_option, number, print_json, size
from agent.cli.place import config_dir_option
from agent.cli.progress import progress_bar
from agent.cli.terminal import console, styled
from agent.clock import utc
from agent.control.messages import Progress
from agent.crypto.signing import VerifyKey
from agent.drill.page import duration, render
from agent.drill.rehearse import Drill, Scope
from agent.drill.report import DrillReport, HostDrill, verified
from agent.errors import DrillFailed, RestoreRefused
from agent.maintained import Maintenance, maintenance


@click.command()
@click.argument("vaults", nargs=-1)
@click.option("--sample", type=click.IntRange(1), help="Files to draw; by default as configured.")
@click.option("--no-whole", is_flag=True, help="Restore the sample only, not everything.")
@click.option("--scratch", type=click.Path(path_type=Path, file_okay=False),
              help="Where to restore to: patients' data, while the drill runs.")  # fmt: skip
@click.option("--reports", type=click.Path(path_type=Path, file_okay=False),
              help="Where to leave the signed report, as JSON and as a page.")  # fmt: skip
@click.option("--check", "checked", type=click.Path(path_type=Path, dir_okay=False, exists=True),
              help="Only check the signature of a JSON report.")  # fmt: skip
@json_option
@config_dir_option
def drill(  # noqa: PLR0913, PLR0917 - one parameter an option
    vaults: tuple[str, ...],
    sample: int | None,
    no_whole: bool,
    scratch: Path | None,
    reports: Path | None,
    checked: Path | None,
    as_json: bool,
    config_dir: Path,
) -> None:
    """Rehearse a recovery: restore, compare, measure.

    Of VAULTS, by default of all, to a scratch place.  The newest snapshot of every host
    comes back: a random sample, then everything if there is room.  Each file is hashed
    again, images are parsed and counted by a scratch Orthanc, databases are opened.
    Nothing of it stays but the report.
    """
    with maintenance(config_dir / "maintenance.toml") as work:
        if checked is not None:
            _check(checked, work.state.signer.verify_key())
            return
        configured = work.config.drill
        place = _directory(scratch or configured.scratch or work.state.directory / "drill")
        scope = Scope(
            sample or configured.sample_files,
            configured.whole and not no_whole,
            place,
            configured.orthanc,
        )
        folder = _directory(reports or configured.reports or work.state.directory / "reports")
        done = [_one(work, name, scope, folder) for name in vaults or sorted(work.vaults)]
    if as_json:
        print_json(done)
    else:
        for report in done:
            _show(report, folder)
    failed = [report.vault for report in done if not report.passed]
    if failed:
        raise DrillFailed(
            f"the drill of {', '.join(failed)} failed: a recovery in earnest would, too",
            hint=f"see the report in {folder}, and `vitrine verify --read-data`",
        )


def _one(work: Maintenance, name: str, scope: Scope, folder: Path) -> DrillReport:
    """Rehearse with one vault, on the record, and leave its signed report."""
    keys = work.vault(name)
    work.audit.append(
        Event.DRILL_STARTED, Outcome.SUCCESS, actor="vitrine-maintenance", target=name
    )
    with progress_bar() as show:
        rehearsal = Drill(work.clock, partial(_moved, show))
        report = rehearsal.run(name, work.newest(keys), lambda: work.reader(keys), scope)
    report = report.signed(work.state.signer)
    stem = folder / f"drill-{name}-{utc(report.started_ns):%Y%m%dT%H%M%SZ}"
    _leave(stem.with_suffix(".json"), report.encode())
    _leave(stem.with_suffix(".html"), render(report).encode())
    work.audit.append(
        Event.DRILL_ENDED,
        Outcome.SUCCESS if report.passed else Outcome.FAILED,
        actor="vitrine-maintenance",
        target=name,
        details={
            "hosts": len(report.hosts),
            "recovery_point_s": int(report.recovery_point_seconds),
            "recovery_time_s": int(report.recovery_time_seconds),
            "measured": report.is_measured,
        },
    )
    return report


def _check(path: Path, key: VerifyKey) -> None:
    report = verified(path.read_bytes(), key)
    verdict = "passed" if report.passed else "failed"
    console.print(
        f"Signed here, unchanged: the drill of {report.vault} on "
        f"{utc(report.started_ns):%Y-%m-%d %H:%M} UTC {verdict}."
    )


def _show(report: DrillReport, folder: Path) -> None:
    verdict = styled("green", "passed") if report.passed else styled("bold red", "FAILED")
    console.print(f"Drill of {report.vault}: ", verdict, sep="")
    how = "measured" if report.is_measured else "reckoned from the sample"
    console.print(
        f"  recovery point {duration(report.recovery_point_seconds)} · "
        f"recovery time of everything {duration(report.recovery_time_seconds)} ({how})"
    )
    for host in report.hosts:
        for line in _lines(host):
            console.print(f"  {line}")
    console.print(f"  report in {folder}")


def _lines(host: HostDrill) -> list[str]:
    lines = [f"host {host.host}, first file back after {duration(host.first_byte_seconds)}"]
    for title, restored in (("sample", host.sample), ("everything", host.whole)):
        if restored is not None:
            wrong = restored.lost + restored.compared.different
            state = f"{number(wrong)} WRONG" if wrong else "every hash right"
            lines.append(
                f"  {title}: {number(restored.files)} files, {size(restored.bytes)} in "
                f"{duration(restored.seconds)}, {state}"
            )
    if host.whole is None and host.why_not_whole:
        lines.append(f"  everything: {host.why_not_whole}")
    looked = host.inspected
    if looked is not None:
        lines.append(
            f"  {number(looked.images)} images, {number(looked.images_failed)} do not parse; "
            f"{number(looked.databases)} databases, {number(looked.databases_failed)} do not open"
        )
        if looked.pacs.server:
            lines.append(
                f"  Orthanc counts {number(looked.pacs.counted)} of "
                f"{number(looked.pacs.expected)} images"
            )
    problems = (host.problem, looked.problem if looked else "")
    return [*lines, *(f"  {problem}" for problem in problems if problem)]


def _moved(show: Callable[[Progress], None], done: int, total: int, files: int) -> None:
    show(Progress(f"{number(files)} files", done, total, "bytes"))


def _directory(path: Path | str) -> Path:
    """Return a directory of ours, made if missing, that nobody else can read."""
    made = Path(path)
    try:
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        if made.stat().st_mode & 0o077 and made.stat().st_uid != os.geteuid():
            raise RestoreRefused(f"{made} is not ours", hint="name a directory of your own")
    except OSError as error:
        raise RestoreRefused(f"{made} cannot be used: {error.strerror}") from error
    return made


def _leave(path: Path, data: bytes) -> None:
    """Write a report, for its owner alone: counts, but of patients."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
