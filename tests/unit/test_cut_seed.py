"""The chunker's seed: every id key must give one that the chunker takes."""

from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.naming import IdKey
from agent.encode.chunker import Chunker


@given(st.binary(min_size=32, max_size=32))
def test_every_id_key_seeds_the_chunker(raw: bytes) -> None:
    """No vault's key is refused; half of them were, while seeds had 64 bits."""
    seed = IdKey(raw).cut_seed
    assert 0 < seed < 2**63
    assert [bytes(chunk) for chunk in Chunker(seed).cut(memoryview(b"data"))] == [b"data"]
