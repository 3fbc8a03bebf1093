"""The sources of a vault: which they are, and how each stands at the top of a snapshot."""

import os
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from agent.backup.journal import ROOT, Directory, Journal
from agent.backup.leaf import Change
from agent.backup.listing import OpenSource, is_unchanged, make_entry, xattrs
from agent.backup.pages import Pages
from agent.backup.patterns import Patterns
from agent.backup.request import SourceOutcome
from agent.crypto.naming import object_name
from agent.errors import SourceUnavailable
from agent.model.snapshot import SourceState


class Source(NamedTuple):
    """A directory that is protected."""

    path: bytes  # absolute
    label: bytes  # its name at the top of a snapshot; unique in its vault
    patterns: Patterns


class ReadySource(NamedTuple):
    """A source that is open, and its place in the journal."""

    source: Source
    open: OpenSource
    root: Directory


def synchronise(journal: Journal, pages: Pages, sources: Sequence[Source]) -> dict[int, bytes]:
    """Make the journal know these sources and no others; return their labels by number."""
    labels = {journal.source(source.path): source.label for source in sources}
    for number, _ in journal.sources():
        if number not in labels:
            journal.forget_source(number)
    origins = {source.label: source.path for source in sources}
    gone: list[Change] = [
        (entry.name, None)
        for entry in pages.entries(ROOT)
        if origins.get(entry.name) != entry.origin
    ]
    pages.apply(ROOT, gone)
    return labels


def make_ready(
    journal: Journal, pages: Pages, sources: Sequence[Source]
) -> tuple[list[ReadySource], dict[bytes, str]]:
    """Return the sources that could be opened, and by path why the others could not."""
    ready: list[ReadySource] = []
    missing: dict[bytes, str] = {}
    for source in sources:
        try:
            ready.append(_ready(journal, pages, source))
        except SourceUnavailable as error:
            missing[source.path] = error.message
    return ready, missing


def _ready(journal: Journal, pages: Pages, source: Source) -> ReadySource:
    """Open a source and bring its own entry up to date; raise SourceUnavailable."""
    number = journal.source(source.path)
    root = journal.directory(number, b"")
    opened = OpenSource(source.path)
    try:
        if root is not None and root.files:
            _refuse_bare_mount_point(opened, journal.device(number))
        if root is None:
            root = journal.add_directory(number, b"", journal.root())
        if journal.device(number) != opened.device:
            journal.set_device(number, opened.device)
        _update_entry(pages, source, opened, root)
    except BaseException:
        opened.close()
        raise
    return ReadySource(source, opened, root)


def incomplete(
    journal: Journal, sources: Sequence[Source], missing: Container[bytes]
) -> tuple[SourceState, ...]:
    """Return what a snapshot says of the sources that are not whole, without their names."""
    states = []
    for source in sources:
        changed, unreadable = journal.flawed(journal.source(source.path))
        is_missing = source.path in missing
        if changed or unreadable or is_missing:
            digest = object_name(source.label).hex()[:16]
            states.append(SourceState(digest, changed, unreadable, is_missing))
    return tuple(states)


def outcomes(
    journal: Journal, sources: Sequence[Source], missing: Mapping[bytes, str]
) -> dict[bytes, SourceOutcome]:
    """Return by path how each source stands; `missing` says why some could not be opened."""
    found = {}
    for source in sources:
        number = journal.source(source.path)
        directory = journal.directory(number, b"")
        found[source.path] = SourceOutcome(
            directory.files if directory else 0,
            directory.bytes if directory else 0,
            source.path in missing,
            *journal.flawed(number),
            missing.get(source.path, ""),
        )
    return found


def _update_entry(pages: Pages, source: Source, opened: OpenSource, root: Directory) -> None:
    known = pages.find(ROOT, [source.label]).get(source.label)
    if known is not None and is_unchanged(known, opened.stat):
        return
    made = make_entry(source.label, opened.stat, opened.device, xattrs=xattrs(opened.fd))
    entry = msgspec.structs.replace(
        made, origin=source.path, tree=root.root or b"", files=root.files, bytes=root.bytes
    )
    pages.apply(ROOT, [(source.label, entry)])


def _refuse_bare_mount_point(opened: OpenSource, device: int) -> None:
    """Raise SourceUnavailable where a source lost its content together with its device.

    That is how a file system that is not mounted looks; taking it for the truth would show an
    empty source as the newest state.
    """
    if device in {0, opened.device}:
        return
    with suppress(OSError), os.scandir(opened.fd) as names:
        if next(names, None) is None:
            raise SourceUnavailable(
                "a source is empty and on another device than before",
                hint="mount its file system; if it is meant to be empty, put an empty file there",
            )
