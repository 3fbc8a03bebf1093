"""A drill's report as a page for people: one HTML file that needs nothing else."""

from html import escape

from agent.clock import utc
from agent.drill.report import DrillReport, HostDrill, Restored

_STYLE = """
:root { color-scheme: light dark; --ok: #1a7f4b; --bad: #b3261e; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2.5rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.verdict { font-weight: 600 } .ok { color: var(--ok) } .bad { color: var(--bad) }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 1rem }
dt { font-size: .85rem; opacity: .75 } dd { margin: 0; font-size: 1.25rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line) }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums }
footer { margin-top: 2.5rem; font-size: .8rem; opacity: .75; overflow-wrap: anywhere }
"""
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0
_STEP = 1000


def render(report: DrillReport) -> str:
    """Return the page."""
    when = f"{utc(report.started_ns):%Y-%m-%d %H:%M} UTC"
    verdict, style = ("passed", "ok") if report.passed else ("failed", "bad")
    title = f"Recovery drill: {escape(report.vault)}"
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>',
        f"<h1>{title}</h1>",
        f'<p>{when} · <span class="verdict {style}">{verdict}</span></p>',
        _figures(report),
        *(_host(host) for host in report.hosts),
        f"<footer>Signed by {report.signer} (Ed25519), signature {report.signature}.",
        "It covers the JSON report beside this page, which says the same:",
        "<code>vitrine drill --check FILE</code>.</footer></html>",
    ]
    return "\n".join(parts) + "\n"


def _figures(report: DrillReport) -> str:
    measured = "measured" if report.is_measured else "reckoned from the sample"
    first = max((host.first_byte_seconds for host in report.hosts), default=0.0)
    figures = (
        ("Recovery point: age of the newest snapshot", duration(report.recovery_point_seconds)),
        ("First file back after", duration(first)),
        (f"Recovery time of everything, {measured}", duration(report.recovery_time_seconds)),
        ("Length of the drill", duration(report.seconds)),
    )
    return f"<dl>{''.join(f'<div><dt>{dt}</dt><dd>{dd}</dd></div>' for dt, dd in figures)}</dl>"


def _host(host: HostDrill) -> str:
    rows = [
        _restored("A random sample", host.sample),
        _restored("Everything", host.whole, host.why_not_whole),
        *_inspected(host),
    ]
    if host.incomplete:
        rows.append(_row("Not whole when it was backed up", host.incomplete, "", ok=None))
    problem = f'<p class="bad">{escape(host.problem)}</p>' if host.problem else ""
    return (
        f"<h2>Host {host.host}, snapshot {host.snapshot} of "
        f"{utc(host.taken_ns):%Y-%m-%d %H:%M} UTC</h2>{problem}<table>"
        '<tr><th>Check<th class="number">Count<th>Result</tr>' + "".join(rows) + "</table>"
    )


def _restored(title: str, restored: Restored | None, why_not: str = "") -> str:
    if restored is None:
        return _row(title, 0, escape(why_not) or "nothing to draw from", ok=None)
    compared = restored.compared
    result = f"{duration(restored.seconds)}, every hash right"
    if not restored.passed:
        result = f"{compared.different:,} with other bytes, {restored.lost:,} not restored"
    return _row(f"{title} restored, {amount(restored.bytes)}", restored.files, result,
                ok=restored.passed)  # fmt: skip


def _inspected(host: HostDrill) -> list[str]:
    looked = host.inspected
    if looked is None:
        return []
    rows = [
        _row("Images parsed", looked.images, _failures(looked.images_failed),
             ok=not looked.images_failed),
        _row("Studies, patients in them", looked.studies, f"{looked.patients:,} patients", ok=True),
        _row("Databases opened", looked.databases, _failures(looked.databases_failed),
             ok=not looked.databases_failed),
    ]  # fmt: skip
    pacs = looked.pacs
    if looked.problem:
        rows.append(_row("Scratch Orthanc", 0, escape(looked.problem), ok=False))
    elif not pacs.server:
        rows.append(_row("Scratch Orthanc", 0, "not asked", ok=None))
    else:
        on = "its own restored storage" if pacs.own_storage else "images sent to it"
        result = (
            f"{pacs.expected:,} expected; {pacs.differing:,} files differ; {pacs.refused:,} refused"
        )
        rows.append(_row(f"Counted by Orthanc on {on}", pacs.counted, result, ok=pacs.passed))
    return rows


def _row(title: str, count: int, result: str, *, ok: bool | None) -> str:
    style = "" if ok is None else "ok" if ok else "bad"
    return f'<tr><td>{title}<td class="number">{count:,}<td class="{style}">{result}</tr>'


def _failures(count: int) -> str:
    return f"{count} failed" if count else "all"


def duration(seconds: float) -> str:
    """Return a length of time for people."""
    for unit, length in (("days", _DAY_S), ("h", _HOUR_S), ("min", _MINUTE_S)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def amount(count: int) -> str:
    """Return a number of bytes for people, in powers of 1,000."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _STEP:
            return f"{value:.0f} {unit}"
        value /= _STEP
    return f"{value:.1f} TB"
