"""Every error Vitrine raises on purpose, in one tree.

    VitrineError
    ├── ConfigInvalid            2   a configuration file or argument is wrong
    ├── RepositoryError         10
    │   ├── NotARepository      11   nothing of ours at that place
    │   ├── RepositoryTooNew    12   written by a later version
    │   ├── ObjectMissing       13   a named object is not there
    │   ├── ObjectDamaged       14   a named object is not what its name says
    │   └── ChainBroken         15   a snapshot is missing, forged, or older than one seen before
    ├── StoreError              20
    │   ├── StoreFull           21   no space left
    │   ├── StoreUnavailable    22   the storage did not answer, or refused
    │   └── ObjectExists        23   a name that must be new is taken
    ├── WrongKey                30   a passphrase, key file or credential does not open it
    ├── AccessDenied            31   refused; the reason is in the audit, never in the message
    ├── SessionExpired          32   the session ended
    ├── AuditUnavailable        33   the record cannot be written, so nothing is released
    ├── AuditBroken             34   the record was changed, cut or has a gap
    ├── ServiceNotRunning       40   nobody listens at the socket
    ├── MountFailed             41   no /dev/fuse, or the kernel refused
    ├── ProtocolError           42   the peer sent what is no message of ours
    ├── SourceUnavailable       50   a source is missing, unreadable or a link
    ├── JournalError            51   the agent's local journal cannot be used
    ├── RestoreRefused          52   the target may not be written to
    ├── RestoreIncomplete       53   part of a restore could not be written
    ├── DrillFailed             54   a rehearsed recovery did not bring back what it should
    ├── NoSuchSnapshot          60   nothing by that name or time
    ├── NameAmbiguous           61   a name fits several
    └── NotFound                62   no vault, user or session by that name

The number is the exit status of the command line (docs/exit-codes.md).  The raiser says what
happened, to which object; `hint` says what the user can do next.  Messages never hold a
patient's name, an identifier or a path inside a source: paths of our own files are fine.
"""

import errno as _errno


class VitrineError(Exception):
    """Base of the tree: a message for people, a `hint` about the next step, an exit status."""

    exit_status = 1
    errno = _errno.EIO  # what a file system answers when this reaches it

    def __init__(self, message: str, *, hint: str = "") -> None:
        """Say what happened and to what; `hint` is one sentence in the imperative, or empty."""
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigInvalid(VitrineError):
    """A configuration file or an argument is wrong; the message names the key."""

    exit_status = 2


class RepositoryError(VitrineError):
    """The repository is not what it should be."""

    exit_status = 10


class NotARepository(RepositoryError):
    """There is no Vitrine repository at that place."""

    exit_status = 11


class RepositoryTooNew(RepositoryError):
    """A version, suite, codec or feature this program does not know."""

    exit_status = 12


class ObjectMissing(RepositoryError):
    """A named object is not there."""

    exit_status = 13


class ObjectDamaged(RepositoryError):
    """A named object is not what its name, signature or seal says."""

    exit_status = 14


class ChainBroken(RepositoryError):
    """A snapshot is missing, forged, or older than what was seen before."""

    exit_status = 15


class StoreError(VitrineError):
    """The storage below the repository failed."""

    exit_status = 20


class StoreFull(StoreError):
    """No space is left where the object should go."""

    exit_status = 21
    errno = _errno.ENOSPC


class StoreUnavailable(StoreError):
    """The storage did not answer, or refused."""

    exit_status = 22


class ObjectExists(StoreError):
    """A name that must be new is taken by other bytes."""

    exit_status = 23
    errno = _errno.EEXIST


class WrongKey(VitrineError):
    """A passphrase, key file or credential does not open what it should."""

    exit_status = 30
    errno = _errno.EACCES


class AccessDenied(VitrineError):
    """Refused.  All refusals look alike from outside; the reason is in the audit."""

    exit_status = 31
    errno = _errno.EACCES


class SessionExpired(VitrineError):
    """The session ended; unlock again."""

    exit_status = 32
    errno = _errno.EACCES


class AuditUnavailable(VitrineError):
    """The audit record cannot be written and synced, so no key is released."""

    exit_status = 33
    errno = _errno.EACCES


class AuditBroken(VitrineError):
    """The audit chain was changed, cut, or has a gap; the message says where."""

    exit_status = 34


class ServiceNotRunning(VitrineError):
    """Nobody listens at the socket; the hint says how to start it."""

    exit_status = 40


class MountFailed(VitrineError):
    """No /dev/fuse, no right to mount, or the kernel refused."""

    exit_status = 41


class ProtocolError(VitrineError):
    """The peer sent what is no message of ours."""

    exit_status = 42


class SourceUnavailable(VitrineError):
    """A source is missing, cannot be read, or has become a link."""

    exit_status = 50


class JournalError(VitrineError):
    """The agent's local journal cannot be read or written."""

    exit_status = 51


class RestoreRefused(VitrineError):
    """The target of a restore may not be written to."""

    exit_status = 52


class RestoreIncomplete(VitrineError):
    """Part of a restore could not be written; what was written is whole."""

    exit_status = 53


class DrillFailed(VitrineError):
    """A rehearsed recovery did not bring back what it should."""

    exit_status = 54


class NoSuchSnapshot(VitrineError):
    """No snapshot by that name, or none so old."""

    exit_status = 60
    errno = _errno.ENOENT


class NameAmbiguous(VitrineError):
    """A name fits several; the message lists them."""

    exit_status = 61


class NotFound(VitrineError):
    """There is no vault, user or session by that name."""

    exit_status = 62
    errno = _errno.ENOENT
