"""What holds for every text in a record, and every change to a chain."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.audit.records import (
    MAX_LINE_BYTES,
    MAX_TEXT,
    AuditRecord,
    decode,
    encode,
    plain,
    plain_details,
)
from agent.audit.verify import verify_chain
from agent.errors import AuditBroken
from tests.fakes.audit import AuditKit, note
from tests.fakes.clock import FakeClock

TEXTS = st.text(max_size=2 * MAX_TEXT)
ANY_TEXT = st.text(st.characters(), max_size=100)  # lone surrogates as well
DETAILS = st.dictionaries(
    ANY_TEXT, ANY_TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1), max_size=32
)


@contextmanager
def grown_chain() -> Iterator[AuditKit]:
    """Make a small chain in a directory of its own."""
    directory = Path(tempfile.mkdtemp())
    try:
        kit = AuditKit(directory, FakeClock())
        kit.grown(6)
        yield kit
    finally:
        shutil.rmtree(directory)


@given(TEXTS | ANY_TEXT)
def test_plain_text_is_one_bounded_printable_line(text: str) -> None:
    """Whatever is typed, it prints on one line, and is plain already the second time."""
    kept = plain(text)
    assert len(kept) <= MAX_TEXT
    assert kept.isprintable()
    assert kept.encode().decode() == kept
    assert plain(kept) == kept


@given(ANY_TEXT, DETAILS)
def test_record_has_one_form_and_comes_back(
    text: str, details: dict[str, str | bool | int]
) -> None:
    """Any record is a line of bounded length, and the line is that record."""
    record = AuditRecord(
        7, "t", "access-decided", "success", plain(text), plain(text), plain(text),
        plain_details(details), "0" * 64,
    )  # fmt: skip
    line = encode(record)
    assert b"\n" not in line
    assert len(line) < MAX_LINE_BYTES
    assert decode(line, 7) == record


@given(st.data())
def test_every_edit_of_a_chain_is_found(data: st.DataObject) -> None:
    """Any bytes replaced by any others, anywhere: found, unless only half a line was added."""
    with grown_chain() as kit:
        clean = kit.files.chain.read_bytes()
        start = data.draw(st.integers(0, len(clean)), label="start")
        end = data.draw(st.integers(start, len(clean)), label="end")
        new = data.draw(st.binary(max_size=40), label="new")
        edited = clean[:start] + new + clean[end:]
        assume(edited != clean and not edited.startswith(clean))
        kit.files.chain.write_bytes(edited)
        with pytest.raises(AuditBroken):
            verify_chain(kit.files, kit.key)


@given(st.permutations(range(10)))
def test_every_reordering_is_found(order: list[int]) -> None:
    """Records in any other order are found."""
    assume(order != list(range(10)))
    with grown_chain() as kit:
        lines = kit.files.chain.read_bytes().splitlines(keepends=True)
        kit.files.chain.write_bytes(b"".join(lines[at] for at in order))
        with pytest.raises(AuditBroken):
            verify_chain(kit.files, kit.key)


@given(st.binary(max_size=300).filter(lambda torn: b"\n" not in torn))
def test_any_torn_end_is_mended(torn: bytes) -> None:
    """Whatever a crash leaves behind the last record, the chain opens, says so, and verifies."""
    with grown_chain() as kit:
        with kit.files.chain.open("ab") as file:
            file.write(torn)
        chain = kit.opened()
        note(chain)
        chain.close()
        verified = verify_chain(kit.files, kit.key)
        assert verified.records == 10 + 4 + bool(torn)
