"""What holds for every code, recovery code and policy text."""

from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.recoverycodes import digest, generate
from agent.crypto.totp import STEP_S, Token
from agent.gate.policytext import PolicyFile, statements

NS = 1_000_000_000
KEY = bytes(range(32))
SECRETS = st.binary(min_size=20, max_size=20)
TIMES = st.integers(60, 2**33)


@given(SECRETS, TIMES, st.integers(-STEP_S, STEP_S))
def test_code_of_a_clock_half_a_minute_off_matches(secret: bytes, now: int, off: int) -> None:
    """Whatever the secret and the hour, the app's code is accepted, for a step near the gate's."""
    token = Token(secret)
    step = token.matching_step(token.code((now + off) * NS), now * NS)
    assert step is not None
    assert token.code(step * STEP_S * NS) == token.code((now + off) * NS)
    assert abs(step - now // STEP_S) <= 1


@given(SECRETS, TIMES, st.text(max_size=40))
def test_any_text_is_a_code_or_none(secret: bytes, now: int, typed: str) -> None:
    """No text raises; what matches is the code of its step."""
    token = Token(secret)
    step = token.matching_step(typed, now * NS)
    codes = {token.code((now + off * STEP_S) * NS) for off in (-1, 0, 1)}
    assert step is None or token.code(step * STEP_S * NS) in codes


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_text_has_a_recovery_digest(user: str, typed: str) -> None:
    """No text raises, and none is the digest of a real code."""
    assert digest(KEY, user, typed) not in {digest(KEY, user, code) for code in generate()}


@given(st.lists(st.sampled_from(['"', "\\", ";", "//", "\n", "permit", " ", "@id", "{", "é"])))
def test_policies_cover_their_file(parts: list[str]) -> None:
    """Cutting loses no text but comments and blanks, and lines count from one, upwards."""
    text = "".join(parts)
    found = list(statements(PolicyFile("f", text)))
    at = 0
    for statement in found:
        assert statement.text in text[at:]
        at = text.index(statement.text, at) + len(statement.text)
        assert 1 <= statement.line <= text.count("\n") + 1
    assert [s.line for s in found] == sorted(s.line for s in found)
