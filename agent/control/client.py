"""Calling a Vitrine service from the command line: one question, its answer, no event loop."""

import socket
from collections.abc import Callable

from agent import errors
from agent.control.messages import Failed, Message, Progress
from agent.control.wire import BlockingConnection
from agent.errors import ProtocolError, ServiceNotRunning, VitrineError


def call(
    path: str,
    request: Message,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    service: str = "service",
) -> Message:
    """Return the final answer of the service at `path`.

    Raises the VitrineError that the service named, ServiceNotRunning where nobody listens, and
    ProtocolError where it hung up first.  `on_progress` is called for each Progress before that.
    """
    connection = BlockingConnection(_connected(path, service))
    try:
        connection.send(request)
        message = connection.receive()
        while isinstance(message, Progress):
            if on_progress is not None:
                on_progress(message)
            message = connection.receive()
    finally:
        connection.close()
    return final(message)


def final(message: Message | None) -> Message:
    """Return an answer that is none of failure; raise what failed."""
    if message is None:
        raise ProtocolError("the service hung up before it answered", hint="see its log")
    if isinstance(message, Failed):
        raise error_of(message)
    return message


def error_of(failed: Failed) -> VitrineError:
    """Return the error that a service told us of; an unknown name becomes its base."""
    kind = getattr(errors, failed.error, VitrineError)
    if not (isinstance(kind, type) and issubclass(kind, VitrineError)):
        kind = VitrineError
    return kind(failed.message, hint=failed.hint)


def _connected(path: str, service: str) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.connect(path)
    except OSError as error:
        connecting.close()
        raise not_running(path, service, error) from error
    return connecting


def not_running(path: str, service: str, error: OSError) -> ServiceNotRunning:
    """Return the error for a socket at `path` that could not be connected to."""
    reason = (error.strerror or "no answer").lower()
    return ServiceNotRunning(
        f"the {service} does not answer at {path}: {reason}",
        hint=f"start it with `vitrine {service}`, `systemctl start vitrine-{service}` "
        "or `vitrine up`",
    )
