"""Passwords: stored as verifiers, checked as people type them, refused when too short."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from agent.crypto.keyslots import PassphraseCost
from agent.crypto.password import LOGIN_COST, PasswordHasher
from agent.errors import ConfigInvalid

CHEAP = PassphraseCost(64, 1, 1)


@pytest.fixture(name="hasher", scope="module")
def _hasher() -> PasswordHasher:
    return PasswordHasher(CHEAP)


def test_right_password_verifies_and_wrong_does_not(hasher: PasswordHasher) -> None:
    """Only the password itself fits its verifier."""
    verifier = hasher.verifier("correct horse battery")
    assert hasher.verifies("correct horse battery", verifier)
    assert not hasher.verifies("correct horse batterz", verifier)
    assert not hasher.verifies("", verifier)


def test_password_typed_on_another_keyboard_is_the_same(hasher: PasswordHasher) -> None:
    """Composed and decomposed letters, and full-width ones, are one password (NFKC)."""
    verifier = hasher.verifier("caf\u00e9 \uff11\uff12\uff13\uff14")
    assert hasher.verifies("cafe\u0301 1234", verifier)


def test_two_verifiers_of_one_password_differ(hasher: PasswordHasher) -> None:
    """A salt of its own each: equal passwords do not show."""
    assert hasher.verifier("the same one") != hasher.verifier("the same one")


def test_verifier_carries_its_cost(hasher: PasswordHasher) -> None:
    """A verifier made before the cost was raised still verifies."""
    verifier = hasher.verifier("made long ago")
    assert verifier.startswith("$argon2id$v=19$m=64,t=1,p=1$")
    assert PasswordHasher(PassphraseCost(128, 2, 1)).verifies("made long ago", verifier)


def test_default_cost_is_that_of_the_rfc() -> None:
    """RFC 9106 section 4, second recommended option: 64 MiB, 3 passes, 4 lanes."""
    verifier = PasswordHasher().verifier("long enough")
    assert verifier.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert (LOGIN_COST.memory_kib, LOGIN_COST.iterations, LOGIN_COST.lanes) == (65536, 3, 4)


def test_nobodys_verifier_never_verifies(hasher: PasswordHasher) -> None:
    """Without a user the work is done, and the answer is no."""
    assert not hasher.verifies("whatever it is", None)


@pytest.mark.parametrize("damaged", ["", "x", "$argon2id$v=19$m=64,t=1,p=1$AAAA$"])
def test_damaged_verifier_verifies_nothing(hasher: PasswordHasher, damaged: str) -> None:
    """A verifier that was cut or emptied lets nobody in."""
    assert not hasher.verifies("", damaged)
    assert not hasher.verifies("x", damaged)


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_password_out_of_bounds_is_refused(hasher: PasswordHasher, password: str) -> None:
    """Eight to 256 characters: neither guessable at once nor a way to make the gate work."""
    with pytest.raises(ConfigInvalid, match="8 to 256"):
        hasher.verifier(password)


def test_longest_password_counts_to_its_last_character(hasher: PasswordHasher) -> None:
    """Nothing is cut off silently: one more character is another password."""
    verifier = hasher.verifier("x" * 256)
    assert hasher.verifies("x" * 256, verifier)
    assert not hasher.verifies("x" * 257, verifier)


def test_broken_text_is_a_wrong_password_and_no_crash(hasher: PasswordHasher) -> None:
    """A lone surrogate, as a terminal with another encoding sends it, is just wrong."""
    assert not hasher.verifies("\udcff" * 9, hasher.verifier("\udcfe" * 9))


def test_two_people_may_come_at_the_same_moment() -> None:
    """Several lanes at once in several threads: OpenSSL alone would wait for ever."""
    hasher = PasswordHasher(PassphraseCost(1024, 8, 4))
    verifier = hasher.verifier("long enough")
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(hasher.verifies, "long enough", verifier) for _ in range(40)]
    assert all(answer.result() for answer in asked)
