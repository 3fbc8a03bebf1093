"""No message of ours quotes what it was given: names come in, numbers and our own names go out."""

import ast
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.control import server, wire
from agent.control.client import error_of
from agent.errors import ProtocolError, VitrineError

NAME = "ZZSECRET^NAME"
ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def test_what_fails_by_mistake_is_told_and_logged_without_its_text(
    caplog: pytest.LogCaptureFixture, expect_log: object
) -> None:
    """An OSError's text has the path in it, a KeyError's the key: only the class is logged."""
    assert callable(expect_log)
    expect_log("a request failed", level=logging.ERROR)
    for error in (
        FileNotFoundError(2, "No such file", f"/pacs/{NAME}"),
        KeyError(NAME),
        UnicodeDecodeError("utf-8", NAME.encode(), 0, 1, NAME),
        ExceptionGroup(NAME, [ValueError(NAME)]),
        ExceptionGroup(NAME, [ValueError(NAME), KeyError(NAME)]),
    ):
        told = server.failure(error)
        assert NAME not in repr(told)
        assert isinstance(error_of(told), VitrineError)
    assert NAME not in caplog.text


def test_what_a_peer_sent_is_not_quoted() -> None:
    """Garbage may be a name; the error does not say what it was."""
    for garbage in (NAME.encode(), b"\x81\xa4type\xad" + NAME.encode()):
        with pytest.raises(ProtocolError) as caught:
            wire.decode(garbage)
        assert NAME not in caught.value.message + caught.value.hint
        assert caught.value.__cause__ is None


def logging_calls(node: ast.AST) -> Iterator[ast.Call]:
    """Yield every logging call below a node."""
    for found in ast.walk(node):
        if (
            isinstance(found, ast.Call)
            and isinstance(found.func, ast.Attribute)
            and isinstance(found.func.value, ast.Name)
            and found.func.value.id in {"log", "_log", "logger", "logging"}
            and found.func.attr in LEVELS
        ):
            yield found


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield every module of the services and the workers."""
    for package in ("agent", "fsdriver"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield os.path.relpath(path, ROOT), ast.parse(path.read_text(encoding="utf-8"))


def catches_only_ours(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler takes nothing but errors of agent/errors.py."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return all(isinstance(kind, ast.Name) and hasattr(errors, kind.id) for kind in kinds)


def test_no_log_line_holds_a_trace_or_the_text_of_a_foreign_error() -> None:
    """`log.exception`, `exc_info` and what the system or a library raised would quote names."""
    complaints = []
    calls = 0
    for path, module in sources():
        for call in logging_calls(module):
            calls += 1
            assert isinstance(call.func, ast.Attribute)
            keywords = {keyword.arg for keyword in call.keywords}
            if call.func.attr == "exception" or keywords & {"exc_info", "stack_info"}:
                complaints.append(f"{path}:{call.lineno}")
        for handler in ast.walk(module):
            if isinstance(handler, ast.ExceptHandler) and not catches_only_ours(handler):
                complaints += [
                    f"{path}:{call.lineno}"
                    for call in logging_calls(handler)
                    if any(isinstance(a, ast.Name) and a.id == handler.name for a in call.args)
                ]
    assert calls > 10, "the search finds what is there"
    assert complaints == []
