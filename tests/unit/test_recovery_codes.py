"""Recovery codes: random, readable, and stored so that a copy of the store tests no guess."""

import re

from agent.crypto.recoverycodes import CODES, digest, generate

KEY = bytes(range(32))


def test_eight_codes_differ_and_are_readable() -> None:
    """Eight of them, ten characters each, without those that look alike."""
    codes = generate()
    assert len(set(codes)) == CODES == 8
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{5}-[0-9A-HJKMNP-TV-Z]{5}", c) for c in codes)
    assert not set(codes) & set(generate())


def test_code_is_read_as_people_type_it() -> None:
    """Case, dashes, spaces, and O for 0 do not matter."""
    assert digest(KEY, "doctor1", "ab1d0-99xyz") == digest(KEY, "doctor1", " ABIDO 99XYZ\n")


def test_digest_depends_on_key_user_and_code() -> None:
    """Another gate, another user, another code: another digest."""
    reference = digest(KEY, "doctor1", "AB1D0-99XYZ")
    assert digest(bytes(32), "doctor1", "AB1D0-99XYZ") != reference
    assert digest(KEY, "doctor2", "AB1D0-99XYZ") != reference
    assert digest(KEY, "doctor1", "AB1D0-99XYA") != reference


def test_user_and_code_do_not_run_into_each_other() -> None:
    """`doctor1` with code `A…` is not `doctor1A` with the rest."""
    assert digest(KEY, "D", "AB1D099XYZ") != digest(KEY, "DA", "B1D099XYZ")
