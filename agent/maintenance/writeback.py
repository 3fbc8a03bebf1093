"""A healed object in the place of a damaged one, though objects are never changed.

The healed bytes are first put under `repair/<name>`; then the damaged object goes, the healed one
takes its name, and the copy goes.  Whatever stops this in between, the healed bytes are durable
under one of the two names, and `finish_interrupted` ends it.
"""

from collections.abc import Sequence

from agent.errors import ObjectExists, StoreUnavailable
from agent.repository import layout
from agent.repository.fetch import get_bounded
from agent.repository.genuine import Genuine
from agent.repository.indexcache import MAX_INDEX_BYTES
from agent.store.base import Part, Store


def replace(store: Store, name: str, parts: Sequence[Part]) -> None:
    """Put an object where a damaged one, or none, is."""
    put_over(store, layout.REPAIR + name, parts)  # left by nobody: repairs begin by finishing
    put_over(store, name, parts)
    store.delete(layout.REPAIR + name)


def put_over(store: Store, name: str, parts: Sequence[Part]) -> None:
    """Put an object that can be made again; what other bytes stand there go."""
    try:
        store.put(name, parts)
    except ObjectExists:
        store.delete(name)
        store.put(name, parts)


def finish_interrupted(store: Store, genuine: Genuine) -> int:
    """End what interrupted repairs have begun; return how many objects got their place."""
    finished = 0
    for listed in list(store.list(layout.REPAIR)):
        name = listed.name.removeprefix(layout.REPAIR)
        try:
            data = get_bounded(store, listed.name, MAX_INDEX_BYTES)
        except StoreUnavailable:
            continue  # perhaps the only healed copy, and perhaps it can be read tomorrow
        if genuine.passes(name, data):
            put_over(store, name, [data])
            finished += 1
        store.delete(listed.name)  # what is not genuine is half of a put, or not by us
    return finished
