"""What a set of snapshots looks like as files, walked page by page."""

from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from agent.crypto.naming import IdKey
from agent.errors import NotFound, ObjectDamaged
from agent.model.ids import TreeId
from agent.model.snapshot import SnapshotInfo
from agent.model.tree import Entry, Flaw, Kind, PageRef, TreePage
from fsdriver.cache import NotCached, PageCache
from fsdriver.nodes import Node, Place
from fsdriver.view import View
from fsdriver.walk import following
from tests.fakes.tree_reader import ID_KEY, TreeReaderFake

SECOND_NS = 1_000_000_000
TAKEN_NS = 1_700_000_000 * SECOND_NS  # 2023-11-14 22:13:20 UTC
FOREVER_NS = 2**62
PAGE_TO_ITSELF = PageRef(b"", bytes(32))


class CountedPages:
    """The reader's pages, counted."""

    def __init__(self, reader: TreeReaderFake) -> None:
        """Start at none."""
        self._reader = reader
        self.read = 0

    def page(self, tree_id: TreeId) -> TreePage:
        """Return a page."""
        self.read += 1
        return self._reader.page(tree_id)


def berlin(moment: datetime) -> datetime:
    """Return the wall time of a server in Berlin."""
    return moment.astimezone(ZoneInfo("Europe/Berlin"))


def view_of(snapshots: list[SnapshotInfo], until_ns: int = FOREVER_NS) -> View:
    """Return a view of these snapshots."""
    return View(snapshots, until_ns, IdKey(ID_KEY), berlin)


def source(reader: TreeReaderFake, name: bytes, *files: bytes) -> Entry:
    """Return a source's directory with empty files."""
    tree = reader.put_directory([Entry(name=file) for file in files])
    return Entry(name=name, kind=Kind.DIRECTORY, tree=tree, origin=b"/srv/" + name)


def names(view: View, directory: Node, reader: TreeReaderFake) -> list[bytes]:
    """Return the names in a directory."""
    return [node.entry.name for _, node in view.listing(directory).from_position(0, reader)]


def walk(view: View, reader: TreeReaderFake, path: bytes) -> Node:
    """Return the node at a path from the root."""
    node = view.root
    for name in path.split(b"/"):
        node = view.lookup(node, name, reader)
    return node


def test_root_has_three_places() -> None:
    """`by-time`, `latest` and `snapshots`, even where there is no snapshot yet."""
    reader = TreeReaderFake()
    view = view_of([])
    assert names(view, view.root, reader) == [b"by-time", b"latest", b"snapshots"]
    assert names(view, walk(view, reader, b"latest"), reader) == []


def test_times_are_the_server_s_own_and_made_unique() -> None:
    """Local date and time; a second snapshot of one second gets `-2`."""
    reader = TreeReaderFake()
    root = [source(reader, b"pacs", b"a")]
    times = [TAKEN_NS, TAKEN_NS + 1, TAKEN_NS + 2, TAKEN_NS + 3600 * SECOND_NS]
    view = view_of(
        [reader.snapshot(root, taken_ns=at, sequence=n) for n, at in enumerate(times, 1)]
    )
    assert names(view, walk(view, reader, b"by-time"), reader) == [b"2023-11-14", b"2023-11-15"]
    day = walk(view, reader, b"by-time/2023-11-14")
    assert names(view, day, reader) == [b"23:13:20", b"23:13:20-2", b"23:13:20-3"]
    assert walk(view, reader, b"by-time/2023-11-15/00:13:20/pacs/a").entry.name == b"a"


def test_latest_is_the_newest_of_every_host_until_the_granted_time() -> None:
    """A later snapshot is not shown as latest, and a host without a new one keeps its last."""
    reader = TreeReaderFake()
    view = view_of(
        [
            reader.snapshot([source(reader, b"old", b"1")], taken_ns=TAKEN_NS, host=b"a" * 16),
            reader.snapshot([source(reader, b"his", b"1")], taken_ns=TAKEN_NS + 1, host=b"b" * 16),
            reader.snapshot([source(reader, b"new", b"1")], taken_ns=TAKEN_NS + 2, host=b"a" * 16),
            reader.snapshot([source(reader, b"late", b"1")], taken_ns=TAKEN_NS + 3, host=b"a" * 16),
        ],
        TAKEN_NS + 2,
    )
    assert names(view, walk(view, reader, b"latest"), reader) == [b"his", b"new"]
    assert len(names(view, walk(view, reader, b"snapshots"), reader)) == 4


def test_equal_labels_of_two_hosts_get_the_host() -> None:
    """Nothing hides anything: both are shown, each with its host's short id."""
    reader = TreeReaderFake()
    view = view_of(
        [
            reader.snapshot([source(reader, b"pacs", b"1")], taken_ns=TAKEN_NS, host=b"a" * 16),
            reader.snapshot([source(reader, b"pacs", b"2")], taken_ns=TAKEN_NS, host=b"b" * 16),
        ]
    )
    latest = walk(view, reader, b"latest")
    assert names(view, latest, reader) == [b"pacs@616161616161", b"pacs@626262626262"]
    assert walk(view, reader, b"latest/pacs@626262626262/2").entry.name == b"2"
    with pytest.raises(NotFound):
        view.lookup(latest, b"pacs", reader)


def large(reader: TreeReaderFake, count: int) -> tuple[View, Node, list[bytes]]:
    """Return a view with a directory of `count` entries, the directory, and its names."""
    entries = sorted(b"%06x" % (number * 7919) for number in range(count))
    view = view_of([reader.snapshot([source(reader, b"s", *entries)], taken_ns=TAKEN_NS)])
    return view, walk(view, reader, b"latest/s"), entries


def test_name_in_a_large_directory_costs_a_few_pages() -> None:
    """Found by bisection through inner pages; what is not there costs no more."""
    reader = TreeReaderFake()
    view, directory, entries = large(reader, 20_000)
    pages = CountedPages(reader)
    for name in (entries[0], entries[-1], entries[9_999]):
        assert view.lookup(directory, name, pages).entry.name == name
    for name in (b"", b"0000000", b"zzz"):
        with pytest.raises(NotFound):
            view.lookup(directory, name, pages)
    assert pages.read <= 6 * 3


def test_listing_goes_on_from_any_position_it_gave() -> None:
    """A reader that comes back later sees each remaining name once, a page at a time."""
    reader = TreeReaderFake()
    view, directory, entries = large(reader, 5_000)
    whole = list(view.listing(directory).from_position(0, reader))
    assert [node.entry.name for _, node in whole] == entries
    listing = view.listing(directory)
    for at in (0, 1, 2_500, 4_998, 17):
        position = whole[at][0]
        rest = [node.entry.name for _, node in islice(listing.from_position(position, reader), 9)]
        assert rest == entries[at + 1 : at + 10]
    assert list(listing.from_position(whole[-1][0], reader)) == []
    pages = CountedPages(reader)
    assert next(view.listing(directory).from_position(0, pages))
    assert pages.read <= 4


def test_entries_after_a_name_are_the_ones_that_follow() -> None:
    """From the middle of a large directory, across pages, to the end; no page too many."""
    reader = TreeReaderFake()
    _, directory, entries = large(reader, 3_000)
    tree = directory.entry.tree
    found = [entry.name for _, entry in following([Place(tree, entries[1_000])], reader)]
    assert found == entries[1_001:]
    pages = CountedPages(reader)
    first = islice(following([Place(tree, b"")], pages), 2)
    assert [entry.name for _, entry in first] == entries[:2]
    assert pages.read <= 3


def test_a_walk_goes_down_and_up_again() -> None:
    """Depth first, names in order, on from any file, whatever lies above it."""
    reader = TreeReaderFake()

    def directory(name: bytes, *below: Entry) -> Entry:
        return Entry(name=name, kind=Kind.DIRECTORY, tree=reader.put_directory(below))

    file = Entry(name=b"f")
    inner = directory(b"b", directory(b"p", file), directory(b"q"), directory(b"r", file))
    root = directory(b"", directory(b"a", file), inner, file, directory(b"g", file))
    inside = reader.page(TreeId(inner.tree)).entries[0]
    places = [Place(inside.tree, b"f"), Place(inner.tree, b"p"), Place(root.tree, b"b")]
    met = [(tree, entry.name) for tree, entry in following(places, reader)]
    assert [name for _, name in met] == [b"q", b"r", b"f", b"f", b"g", b"f"]
    assert met[3] == (root.tree, b"f")
    flat = [entry.name for _, entry in following(places, reader, deep=False)]
    assert flat == [b"q", b"r", b"f", b"g"]


def test_pages_that_are_not_here_are_not_waited_for() -> None:
    """The event loop is told at once; after a thread has read them it gets its answer."""
    reader = TreeReaderFake()
    view, directory, entries = large(reader, 2_000)
    cache = PageCache(reader, 1 << 20)
    listing = view.listing(directory)
    with pytest.raises(NotCached):
        view.lookup(directory, entries[5], cache.only)
    with pytest.raises(NotCached):
        next(listing.from_position(0, cache.only))
    view.lookup(directory, entries[0], cache)
    assert next(listing.from_position(0, cache.only))[1].entry.name == entries[0]


def test_identity_is_one_s_own() -> None:
    """No two files, directories or snapshots share one; links of one file in one snapshot do."""
    reader = TreeReaderFake()
    links = [Entry(name=name, inode=7, links=2, digest=b"d") for name in (b"x", b"y")]
    other = Entry(name=b"z", inode=7, links=2, digest=b"another file system's inode 7")
    inner = Entry(name=b"d", kind=Kind.DIRECTORY, tree=reader.put_directory([Entry(name=b"x")]))
    tree = reader.put_directory([*links, other, inner])
    root = [Entry(name=b"s", kind=Kind.DIRECTORY, tree=tree)]
    view = view_of(
        [reader.snapshot(root, taken_ns=TAKEN_NS + n * SECOND_NS, sequence=n + 1) for n in (0, 1)]
    )
    (first, second) = names(view, walk(view, reader, b"snapshots"), reader)
    identities = {
        place + b"/s/" + name: walk(view, reader, b"snapshots/%b/s/%b" % (place, name)).identity
        for place in (first, second)
        for name in (b"x", b"y", b"z", b"d", b"d/x")
    }
    assert identities[first + b"/s/x"] == identities[first + b"/s/y"]
    assert len(set(identities.values())) == len(identities) - 2


def test_trail_names_a_directory_in_every_snapshot() -> None:
    """What the audit folds by is the same for a directory however it was reached, and keyed."""
    reader = TreeReaderFake()
    root = [source(reader, b"pacs", b"a")]
    snapshots = [
        reader.snapshot(root, taken_ns=TAKEN_NS + n * SECOND_NS, sequence=n + 1) for n in (0, 1)
    ]
    view = view_of(snapshots)
    trails = {
        walk(view, reader, b"snapshots/%b/pacs" % name).trail
        for name in names(view, walk(view, reader, b"snapshots"), reader)
    }
    assert trails == {walk(view, reader, b"latest/pacs").trail}
    elsewhere = View(snapshots, FOREVER_NS, IdKey(bytes(32)), berlin)
    assert walk(elsewhere, reader, b"latest/pacs").trail not in trails


def test_directory_that_could_not_be_listed_is_an_error() -> None:
    """Empty would be a lie."""
    reader = TreeReaderFake()
    entry = Entry(name=b"s", kind=Kind.DIRECTORY, flaw=Flaw.UNLISTED)
    view = view_of([reader.snapshot([entry], taken_ns=TAKEN_NS)])
    directory = walk(view, reader, b"latest/s")
    with pytest.raises(ObjectDamaged):
        view.listing(directory)
    with pytest.raises(ObjectDamaged):
        view.lookup(directory, b"x", reader)


def test_tree_that_leads_in_a_circle_ends() -> None:
    """A hostile tree of inner pages that never reach a leaf is no endless walk."""

    class Circle:
        def page(self, tree_id: TreeId) -> TreePage:
            return TreePage(pages=(PAGE_TO_ITSELF,))

    reader = TreeReaderFake()
    view = view_of([reader.snapshot([source(reader, b"s", b"x")], taken_ns=TAKEN_NS)])
    directory = walk(view, reader, b"latest/s")
    with pytest.raises(NotFound):
        view.lookup(directory, b"x", Circle())
    with pytest.raises(ObjectDamaged):
        list(view.listing(directory).from_position(0, Circle()))
