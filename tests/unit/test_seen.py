"""The gate's memory of chains, when its file is not what it wrote."""

from pathlib import Path

import pytest

from agent.errors import ConfigInvalid
from agent.repository.seen import SeenChains


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"a": 1}', b'{"\xff": [1, "a"]}', b'{"a": ' + b"[" * 100_000]
)
def test_damaged_memory_is_named_and_not_taken_for_none(tmp_path: Path, content: bytes) -> None:
    """Without it a rolled-back repository would go unnoticed: the file is named, nothing opens."""
    path = tmp_path / "seen.json"
    path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"seen\.json") as caught:
        SeenChains(path)
    assert "restore the file" in caught.value.hint
