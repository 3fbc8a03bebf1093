"""What holds for every test: markers, Hypothesis profiles, and no undeclared warning in the log.

A test may log at WARNING or above only what it declares beforehand with `expect_log`; anything
else fails it, and so does a declared record that never comes.  (The habit is s3ql's.)
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"
SERVER_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # servers lie where a person's PATH may not look

# No deadline and no complaint of slowness: the cores are shared, and how fast an example is says
# nothing about right or wrong.
settings.register_profile(
    "dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50
)
settings.register_profile("ci", settings.get_profile("dev"), max_examples=300, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "dev"))


# -- markers ------------------------------------------------------------------------------------


def _no_root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


def _no_fuse() -> str | None:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "neither root nor fusermount3 to mount with"
    return None


def missing_programs(*names: str) -> list[str]:
    """Return those of `names` that are no programs on PATH or among the servers."""
    path = f"{os.environ.get('PATH', os.defpath)}:{SERVER_PATH}"
    return [name for name in names if shutil.which(name, path=path) is None]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run; in CI a missing program is a fault of the set-up."""
    reasons = [
        reason
        for name, missing in (("root", _no_root), ("fuse", _no_fuse))
        if item.get_closest_marker(name) and (reason := missing())
    ]
    if reasons:
        pytest.skip("; ".join(reasons))
    for marker in item.iter_markers("service"):
        if missing := missing_programs(*marker.args):
            refuse = pytest.fail if IN_CI else pytest.skip
            refuse(f"not installed: {', '.join(missing)} (.ci/debian-packages.txt)")


# -- the log ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Expectation:
    pattern: re.Pattern[str]
    level: int
    logger: str | None
    seen: int = 0

    def takes(self, record: logging.LogRecord) -> bool:
        return (
            record.levelno == self.level
            and self.logger in {None, record.name}
            and self.pattern.search(record.getMessage()) is not None
        )


@dataclass(slots=True)
class _Ledger:
    """The records of one test at WARNING or above, and what the test said of them."""

    records: list[logging.LogRecord] = field(default_factory=list)
    expectations: list[_Expectation] = field(default_factory=list)

    def complaints(self) -> list[str]:
        """Return one line for each undeclared record and each declared one that never came."""
        lines = []
        for record in self.records:
            taker = next((e for e in self.expectations if e.takes(record)), None)
            if taker is None:
                lines.append(
                    f"logged but not declared: {record.levelname} {record.name}: "
                    f"{record.getMessage()} ({record.pathname}:{record.lineno})"
                )
            else:
                taker.seen += 1
        lines += [
            f"declared but not logged: {logging.getLevelName(e.level)} /{e.pattern.pattern}/"
            for e in self.expectations
            if not e.seen
        ]
        return lines

    def settle(self) -> None:
        """Fail the running test if anything is left over, and start afresh."""
        complaints = self.complaints()
        self.records.clear()
        self.expectations.clear()
        if complaints:
            pytest.fail("\n".join(complaints), pytrace=False)


class _LedgerHandler(logging.Handler):
    """Enters each record; the root logger's handler for the length of a test."""

    def __init__(self, ledger: _Ledger) -> None:
        super().__init__(logging.WARNING)
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        self._ledger.records.append(record)


_LEDGER = pytest.StashKey[_Ledger]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Keep a ledger from before the test's fixtures are made until they are gone."""
    ledger = item.stash[_LEDGER] = _Ledger()
    handler = _LedgerHandler(ledger)
    logging.getLogger().addHandler(handler)
    try:
        return (yield)
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Settle what the fixtures and the test logged; a test that failed anyway keeps its reason."""
    yield
    item.stash[_LEDGER].settle()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Settle what was logged since, by fixtures that cleaned up."""
    ledger = item.stash[_LEDGER]
    ledger.records.clear()  # those of a test that failed: reported with it
    ledger.expectations.clear()
    yield
    ledger.settle()


@pytest.fixture
def expect_log(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Return a function that declares what the test is going to log, once or more often.

    expect_log(pattern, level=logging.WARNING, logger=None): `pattern` is a regular expression
    searched for in the message; `logger` is the logger's whole name.
    """
    ledger = request.node.stash[_LEDGER]

    def declare(pattern: str, level: int = logging.WARNING, logger: str | None = None) -> None:
        ledger.expectations.append(_Expectation(re.compile(pattern), level, logger))

    return declare
