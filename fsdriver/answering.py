"""What stands around every handler: refuse once locked, and let nothing out but an errno.

Only FUSEError may leave a handler, since anything else would end the whole mount.  The lock is
asked before a handler starts and again when it is done, with no checkpoint between that and the
answer: nothing is answered after refusing has begun.
"""

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pyfuse3 import FUSEError

from agent.errors import VitrineError
from fsdriver.gatekeeper import Gatekeeper
from fsdriver.lock import SessionLock

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Locked(Protocol):
    """What has handlers: it can be locked, and somebody hears that it is used."""

    lock: SessionLock
    gatekeeper: Gatekeeper


L = TypeVar("L", bound=Locked)
Handler = Callable[Concatenate[L, P], Coroutine[Any, Any, R]]


def answering(handler: Handler[L, P, R]) -> Handler[L, P, R]:
    """Make a handler refuse once locked, and fail with FUSEError only."""

    @functools.wraps(handler)
    async def answer(operations: L, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            operations.lock.check()
            operations.gatekeeper.used()
            result = await handler(operations, *args, **kwargs)
            operations.lock.check()
        except FUSEError:
            raise
        except VitrineError as error:
            if error.errno == errno.EIO:
                log.warning("an operation failed: %s", error.message)
            raise FUSEError(error.errno) from None
        except Exception as error:  # noqa: BLE001 - anything else would end the mount
            log.error("an operation failed: %s", type(error).__qualname__)
            raise FUSEError(errno.EIO) from None
        return result

    return answer
