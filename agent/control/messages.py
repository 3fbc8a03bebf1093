"""What every message between our processes is: a tagged value, and the answers any server gives.

A connection carries requests one way and answers the other; each request is answered by any
number of `Progress` and then by exactly one final answer.  MessagePack, unknown fields ignored,
unknown tags refused.  What may be said to whom: agent_messages, gate_messages, session_messages.
"""

import msgspec


class Message(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base: the tag is the class's name."""


class Failed(Message, frozen=True):
    """The request was not carried out: the error's class name, message and hint."""

    error: str
    message: str
    hint: str = ""


class Done(Message, frozen=True):
    """The request was carried out; there is nothing more to say."""


class Progress(Message, frozen=True):
    """How far a long request has come; `total` of 0 means unknown."""

    phase: str
    done: int
    total: int = 0
    unit: str = ""  # "files" or "bytes"
