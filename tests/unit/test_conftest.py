"""The rules that tests/conftest.py lays on every test."""

import logging
from pathlib import Path

import pytest
import trio

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).parents[1] / "conftest.py"


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Return a test run of its own under the same conftest."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makeini("[pytest]\nmarkers =\n  root:\n  fuse:\n  service:\n")
    return pytester


def outcome(inner: pytest.Pytester, body: str) -> dict[str, int]:
    """Run one test module and return how many tests passed, failed, were skipped or in error."""
    inner.makepyfile("import logging, pytest\nlog = logging.getLogger('x')\n" + body)
    root = logging.getLogger()
    outer, root.handlers = root.handlers, []  # or the outer test would answer for the inner's log
    try:
        return inner.runpytest_inprocess("-p", "no:cacheprovider").parseoutcomes()
    finally:
        root.handlers = outer


def test_undeclared_warning_fails_the_test(inner: pytest.Pytester) -> None:
    """A warning that nobody announced fails the test, though each assertion held."""
    assert outcome(inner, "def test_it(): log.warning('odd')\n") == {"failed": 1}


def test_declared_warning_passes(inner: pytest.Pytester) -> None:
    """A warning that was announced is fine, and so is any number of it."""
    body = (
        "def test_it(expect_log):\n expect_log('^od')\n log.warning('odd')\n log.warning('odd')\n"
    )
    assert outcome(inner, body) == {"passed": 1}


def test_declaration_covers_one_level(inner: pytest.Pytester) -> None:
    """An error does not pass for the warning that was announced."""
    body = "def test_it(expect_log):\n expect_log('odd')\n log.warning('odd')\n log.error('odd')\n"
    assert outcome(inner, body) == {"failed": 1}


def test_declared_warning_must_come(inner: pytest.Pytester) -> None:
    """A test that announces a warning which never comes fails."""
    assert outcome(inner, "def test_it(expect_log): expect_log('odd')\n") == {"failed": 1}


def test_info_is_free(inner: pytest.Pytester) -> None:
    """Below WARNING nothing has to be announced."""
    body = "def test_it(caplog):\n caplog.set_level('DEBUG')\n log.info('all is well')\n"
    assert outcome(inner, body) == {"passed": 1}


def test_fixture_that_warns_while_cleaning_up_is_an_error(inner: pytest.Pytester) -> None:
    """What a fixture logs after the test counts as well."""
    body = (
        "@pytest.fixture\ndef shop():\n yield\n log.error('left open')\ndef test_it(shop): pass\n"
    )
    assert outcome(inner, body) == {"passed": 1, "errors": 1}


def test_failed_test_keeps_its_own_reason(inner: pytest.Pytester) -> None:
    """A failing test fails once, for its own reason, whatever it logged."""
    assert outcome(inner, "def test_it():\n log.error('odd')\n assert 0\n") == {"failed": 1}


def test_tests_do_not_share_a_ledger(inner: pytest.Pytester) -> None:
    """A warning fails the test that logged it and no other."""
    body = "def test_a(): log.warning('odd')\ndef test_b(): pass\n"
    assert outcome(inner, body) == {"failed": 1, "passed": 1}


def test_root_is_asked_of_root_only(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test marked `root` is skipped for anyone else, and runs for root."""
    body = "@pytest.mark.root\ndef test_it(): pass\n"
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert outcome(inner, body) == {"skipped": 1}
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert outcome(inner, body) == {"passed": 1}


def test_missing_program_skips_on_a_desk(inner: pytest.Pytester) -> None:
    """A developer without a program sees its tests skipped."""
    body = "@pytest.mark.service('sh', 'no-such-pacs')\ndef test_it(): pass\n"
    assert outcome(inner, body) == {"skipped": 1}


def test_missing_program_fails_in_ci(
    inner: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In CI a missing program is not taken lightly."""
    monkeypatch.setenv("CI", "true")
    body = "@pytest.mark.service('no-such-pacs')\ndef test_it(): pass\n"
    assert outcome(inner, body) == {"errors": 1}


async def test_async_tests_run_under_trio() -> None:
    """A coroutine is a test without further marks."""
    await trio.lowlevel.checkpoint()


def test_log_handlers_are_left_as_found() -> None:
    """During a test there is one ledger on the root logger, not one for each test so far."""
    names = [type(handler).__name__ for handler in logging.getLogger().handlers]
    assert names.count("_LedgerHandler") == 1
