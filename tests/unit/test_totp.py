"""Tokens: the codes of RFC 6238, how people type them, and which step they belong to."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.crypto.totp import STEP_S, Token, normalised

NS = 1_000_000_000
SECRET = b"12345678901234567890"  # RFC 6238 appendix B
NOW = 1111111109

# RFC 6238 appendix B, SHA-1: the last six of its eight digits.
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("seconds", "code"), VECTORS)
def test_codes_are_those_of_the_rfc(seconds: int, code: str) -> None:
    """An authenticator app and the gate see the same six digits."""
    token = Token(SECRET)
    assert token.code(seconds * NS) == code
    assert token.matching_step(code, seconds * NS) == seconds // STEP_S


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_neighbouring_steps_match(offset: int) -> None:
    """A clock half a minute off still works, and the answer is the code's own step."""
    token = Token(SECRET)
    code = token.code((NOW + offset * STEP_S) * NS)
    assert token.matching_step(code, NOW * NS) == NOW // STEP_S + offset


@pytest.mark.parametrize("offset", [-3, -2, 2, 3])
def test_further_steps_do_not_match(offset: int) -> None:
    """Older and later codes are refused."""
    token = Token(SECRET)
    code = token.code((NOW + offset * STEP_S) * NS)
    assert token.matching_step(code, NOW * NS) is None


@pytest.mark.parametrize(
    "typed",
    ["081804", "081 804", " 081804\n", "081-804", "0 8 1 8 0 4", "081\u00a0804",
     "\uff10\uff18\uff11\uff18\uff10\uff14"],
)  # fmt: skip
def test_code_is_read_as_people_type_it(typed: str) -> None:
    """Spaces, dashes and full-width digits do not matter."""
    assert Token(SECRET).matching_step(typed, NOW * NS) == NOW // STEP_S


@pytest.mark.parametrize(
    "typed",
    ["", "81804", "0081804", "08180x", "+81804", "\u0660\u0668\u0661\u0668\u0660\u0664",
     "081804" * 100, "\udcff"],
)  # fmt: skip
def test_what_is_no_code_matches_nothing(typed: str) -> None:
    """Anything but six digits is no code, even where its number would be the same."""
    assert normalised(typed) == ""
    assert Token(SECRET).matching_step(typed, NOW * NS) is None


def test_time_before_the_first_step_is_no_crash() -> None:
    """A machine that starts in 1970 answers as any other."""
    token = Token(SECRET)
    assert token.matching_step(token.code(0), 0) == 0


def test_new_tokens_differ_and_have_full_length() -> None:
    """Twenty random bytes each (RFC 4226 R6)."""
    first, second = Token.generate(), Token.generate()
    assert first.secret != second.secret
    assert len(first.secret) == 20


def test_short_secret_is_refused() -> None:
    """Nobody makes a weak token by mistake."""
    with pytest.raises(ValueError, match="20 bytes"):
        Token(b"short")


def test_uri_tells_an_app_everything() -> None:
    """Secret, issuer, digits and period are those the gate checks with."""
    uri = urlsplit(Token(SECRET).otpauth_uri("doctor1", "Vitrine"))
    asked = {key: values[0] for key, values in parse_qs(uri.query).items()}
    assert (uri.scheme, uri.netloc, uri.path) == ("otpauth", "totp", "/Vitrine:doctor1")
    assert base64.b32decode(asked.pop("secret")) == SECRET
    assert asked == {"issuer": "Vitrine", "digits": "6", "period": "30", "algorithm": "SHA1"}
