"""Policy files as text: where each policy starts, whether all are valid, and what they hash to.

Cedar says what is wrong with a policy, not where it stands in a file.  So files are cut into their
policies, and each is parsed and validated alone: an error names file, line and policy.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import cedarpy

from agent.crypto.naming import ObjectHasher
from agent.errors import ConfigInvalid

MAX_FILE_BYTES: Final = 1024 * 1024
_SHIPPED: Final = files("agent.gate") / "policies"
# Outside strings and comments a `;` stands only at the end of a policy (Cedar grammar, Policy).
_PART: Final = re.compile(r"""//[^\n]*|"(?:\\.|[^"\\])*"|;|\s+|[^\s;"/]+|.""", re.DOTALL)
_HINT: Final = "mend the file; the policies in force stay in force until it loads"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A file's name and text."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy as written, and where it starts."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Valid policies with their schema, and the BLAKE3 over all of it."""

    schema: str
    policies: str
    ids: tuple[str, ...]
    digest: str


def load_policies(directory: Path | None) -> PolicyText:
    """Return the policies of `directory` (every *.cedar), or the shipped ones for None.

    Raises ConfigInvalid, naming file, line and policy, unless each parses, is valid under the
    shipped schema, and has an @id that no other has.
    """
    schema = (_SHIPPED / "vitrine.cedarschema").read_text("utf-8")
    found = _shipped() if directory is None else _of_site(directory)
    parsed = cedarpy.Schema.from_str(schema)
    where: dict[str, Statement] = {}
    for statement in (each for file in found for each in statements(file)):
        name = _checked(statement, parsed)
        if (first := where.setdefault(name, statement)) is not statement:
            raise _invalid(statement, f"@id({name!r}) is that of {first.file}, line {first.line}")
    if not where:
        raise ConfigInvalid("there is no policy: nobody could do anything", hint=_HINT)
    text = "\n".join(statement.text for statement in where.values())  # what was checked, no more
    return PolicyText(schema, text, tuple(where), _digest(schema, found))


def statements(file: PolicyFile) -> Iterator[Statement]:
    """Yield the policies of a file, in order, comments before them left out."""
    start, line, line_now = None, 1, 1
    for part in _PART.finditer(file.text):
        blank = part.group().isspace() or part.group().startswith("//")
        if start is None and not blank:
            start, line = part.start(), line_now
        line_now += part.group().count("\n")
        if part.group() == ";" and start is not None:
            yield Statement(file.name, line, file.text[start : part.end()])
            start = None
    if start is not None:
        yield Statement(file.name, line, file.text[start:])


def _shipped() -> list[PolicyFile]:
    return [PolicyFile("vitrine.cedar", (_SHIPPED / "vitrine.cedar").read_text("utf-8"))]


def _of_site(directory: Path) -> list[PolicyFile]:
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == ".cedar")
        if large := [path.name for path in paths if path.stat().st_size > MAX_FILE_BYTES]:
            raise ConfigInvalid(f"the policy file {large[0]} is over a megabyte", hint=_HINT)
        return [PolicyFile(path.name, path.read_text("utf-8")) for path in paths]
    except OSError as error:
        raise ConfigInvalid(
            f"policies in {directory} cannot be read: {error.strerror}", hint=_HINT
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"a policy file in {directory} is not UTF-8", hint=_HINT) from error


def _checked(statement: Statement, schema: cedarpy.Schema) -> str:
    """Return the policy's @id; raise ConfigInvalid unless it is one valid policy with an id."""
    try:
        parsed = json.loads(cedarpy.policies_to_json_str(statement.text))
    except ValueError as error:
        raise _invalid(statement, str(error)) from error
    if parsed["templates"] or len(parsed["staticPolicies"]) != 1:
        raise _invalid(statement, "a template allows nothing; write out the policy")
    (policy,) = parsed["staticPolicies"].values()
    name = policy.get("annotations", {}).get("id")
    if not name:
        raise _invalid(statement, 'the policy has no name; write @id("…") before it')
    checked = cedarpy.validate_policies(statement.text, schema)
    if not checked.validation_passed:
        problems = "; ".join(error.error.split(", ", 1)[-1] for error in checked.errors)
        raise _invalid(statement, f"policy {name!r}: {problems}")
    return str(name)


def _invalid(statement: Statement, what: str) -> ConfigInvalid:
    return ConfigInvalid(f"{statement.file}, line {statement.line}: {what}", hint=_HINT)


def _digest(schema: str, found: list[PolicyFile]) -> str:
    hasher = ObjectHasher()
    for text in (schema, *(part for file in found for part in (file.name, file.text))):
        data = text.encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    return hasher.digest().hex()
