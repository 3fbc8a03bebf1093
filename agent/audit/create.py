"""The first record of a chain, and its files: made once, by set-up, never by a service."""

import os
from pathlib import Path

from agent.audit.files import AuditFiles
from agent.audit.head import Head, create_head
from agent.audit.log import unavailable
from agent.audit.records import (
    NO_PREVIOUS,
    AuditRecord,
    Event,
    Outcome,
    encode,
    line_hash,
    plain,
    timestamp,
)
from agent.clock import Clock
from agent.crypto.signing import SigningKey
from agent.errors import ConfigInvalid


def create_chain(files: AuditFiles, signer: SigningKey, clock: Clock, actor: str) -> None:
    """Make a new chain, durably, in directories that are there.

    Raises ConfigInvalid where a chain is already, AuditUnavailable where it cannot be written.
    """
    record = AuditRecord(
        seq=1,
        time=timestamp(clock.now_ns()),
        event=Event.AUDIT_CREATED,
        outcome=Outcome.SUCCESS,
        actor=plain(actor),
        action="",
        object="",
        details={"key": signer.verify_key().raw.hex()},
        prev=NO_PREVIOUS,
    )
    line = encode(record)
    try:
        _write_new(files.chain, line + b"\n")
        create_head(files.head, Head(1, line_hash(line)), signer)
        for directory in {files.chain.parent, files.head.parent}:
            _sync_directory(directory)
    except FileExistsError:
        raise ConfigInvalid(
            "there is an audit already; a new one would hide it",
            hint="keep its files, and choose another directory",
        ) from None
    except OSError as error:
        raise unavailable(error) from error


def _write_new(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
