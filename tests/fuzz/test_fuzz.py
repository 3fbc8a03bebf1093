"""Every decoder has a fuzz target, which finds nothing in a minute, nor what was found before."""

import ast
import importlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.chance import chance, rounds
from tests.fuzz.registry import BROKEN, NOT_FUZZED, TARGETS
from tests.fuzz.running import ROOT, fuzz

SECONDS = 1  # a target, two at a time, and libFuzzer takes one more: in CI about a minute in all
FOUND = Path(__file__).parent / "found"
UNPACKING = {"unpack", "unpack_from", "iter_unpack", "loads"}
MSGSPEC = {"msgspec.msgpack", "msgspec.json", "msgspec.toml"}


def decodes(module: ast.Module) -> bool:
    """Tell whether a module turns bytes into values by itself."""
    for call in ast.walk(module):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
            of = ast.unparse(call.func.value)
            is_decoder = of in MSGSPEC or of.endswith("_decoder")
            if call.func.attr in UNPACKING or (call.func.attr == "decode" and is_decoder):
                return True
    return False


def decoding_modules() -> Iterator[str]:
    """Yield the modules of the services that decode."""
    for package in ("agent", "fsdriver"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if decodes(ast.parse(path.read_text(encoding="utf-8"))):
                yield ".".join(path.relative_to(ROOT).with_suffix("").parts)


def test_every_module_that_decodes_has_a_target_or_a_reason() -> None:
    """Who adds a decoder adds its target: this test says so."""
    fuzzed = {decoder.partition(":")[0] for t in TARGETS.values() for decoder in t.decodes}
    decoding = set(decoding_modules())
    assert len(decoding) > 10, "the search finds what is there"
    assert decoding - fuzzed - NOT_FUZZED.keys() == set()
    assert NOT_FUZZED.keys() - decoding == set(), "a reason for nothing"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_names_what_is_there_and_takes_its_own_seeds(name: str) -> None:
    """Seeds are examples: they raise nothing but what the decoder's contract has."""
    target = TARGETS[name]
    for decoder in target.decodes:
        module, _, attribute = decoder.partition(":")
        assert hasattr(importlib.import_module(module), attribute), decoder
    seeds = [*target.seeds()]
    assert seeds
    for data in (b"", *seeds):
        target(data)


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: path.name)
def test_what_was_found_once_is_not_found_again(path: Path) -> None:
    """Each file is the input that broke the target its directory is called after, in hex."""
    TARGETS[path.parent.name](bytes.fromhex(path.read_text()))


def test_a_finding_is_noticed_and_told_so_that_it_can_be_repeated() -> None:
    """A target that fails: its input is in the message, with the seed."""
    result = fuzz(BROKEN.name, seconds=120, seed=4711)  # it ends with what it finds, at once
    assert not result.is_clean
    assert result.finding is not None
    assert len(result.finding) >= 2
    assert "seed 4711" in str(result)
    assert f"input: {result.finding.hex()}" in str(result)
    with pytest.raises(AssertionError):
        BROKEN(result.finding)


@pytest.mark.slow
def test_no_target_finds_anything_in_a_minute() -> None:
    """Memory, time and errors are bounded whatever the bytes are; fresh ones each time."""
    seed = chance("fuzz").randrange(1, 2**31)
    seconds = rounds(SECONDS)

    def run(name: str) -> str:
        result = fuzz(name, seconds=seconds, seed=seed)
        return "" if result.is_clean else str(result)

    with ThreadPoolExecutor(2) as pool:
        failures = [failure for failure in pool.map(run, TARGETS) if failure]
    assert not failures, "\n\n".join(failures)
