"""Acting as another Unix user for a moment: the demo's doctor, colleague and thief.

A forked child changes its user and calls a function; the interpreter need not be readable to that
user, as it is not where it lives below /root.
"""

import os
import pickle
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import NamedTuple, TypeVar

from agent.cli.main import run
from agent.errors import VitrineError

Answer = TypeVar("Answer")


class Said(NamedTuple):
    """What a command came to."""

    status: int
    output: str
    errors: str


def as_user(uid: int, act: Callable[[], Answer]) -> Answer:
    """Return what `act` returns when run as `uid`; an OSError of it is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _answer(writing, uid, act)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise VitrineError("a child of the demo died")
    answer, error = pickle.loads(data)  # noqa: S301 - from our own child
    if error is not None:
        raise error
    return answer  # type: ignore[no-any-return]


def vitrine_as(uid: int, arguments: list[str]) -> Said:
    """Run a `vitrine` command as `uid`."""

    def act() -> Said:
        os.environ.pop("VITRINE_DEBUG", None)  # a refusal is an answer here, not a traceback
        output, errors = StringIO(), StringIO()
        with redirect_stdout(output), redirect_stderr(errors):
            status = run(arguments)
        return Said(status, output.getvalue(), errors.getvalue())

    return as_user(uid, act)


def become(uid: int) -> None:
    """Become `uid` for good, with no other group; root only, else it must be us already."""
    if os.geteuid() == uid:
        return
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _answer(writing: int, uid: int, act: Callable[[], object]) -> None:
    """Run in the child: answer through the pipe and end without the parent's clean-up."""
    try:
        become(uid)
        try:
            answer = pickle.dumps((act(), None))
        except OSError as error:
            answer = pickle.dumps((None, error))
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - nothing may run on in the child
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
