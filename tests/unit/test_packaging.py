"""The repository as a whole: what is locked, what files may say, how modules are cut."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements.lock", "requirements-build.lock"]
PACKAGES = ["agent", "fsdriver"]
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_MODULE_LINES = 400  # most stay under 250; beyond 400 there are two modules in one

# Taken apart, so that this file does not say them itself.
MACHINE_PATH = re.compile(rf"(?<![\w.*-])/{'work'}(?![\w-])")
REGISTRIES = [
    f"{name}.{domain}"
    for name, domain in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("deb.debian", "org"),
    )
]
INDEX_OPTIONS = [f"--{option}" for option in ("index-url", "extra-index-url", "find-links")]


def normalised(requirement: str) -> str:
    """Return the bare, normalised name of a requirement (PyPA: name normalisation)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name.group()).lower()


def locked(lock: str) -> dict[str, str]:
    """Return what `lock` pins: name to version."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / lock).read_text(), re.MULTILINE)
    return {normalised(name): version for name, version in pins}


def tracked_files() -> list[Path]:
    """Return every file that git tracks and that is there."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return [path for name in names.split(b"\0")[:-1] if (path := ROOT / name.decode()).is_file()]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address(lock: str) -> None:
    """A lock can be installed from whichever mirror a site uses."""
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert not [line for line in text.splitlines() if line.startswith(("-", "/", "."))]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_release_has_a_hash(lock: str) -> None:
    """Nothing is installed that no hash vouches for."""
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text())
    pins = [entry for entry in entries if "==" in entry]
    assert pins
    assert not [pin for pin in pins if "--hash=sha256:" not in pin]


def test_every_dependency_is_locked() -> None:
    """What pyproject.toml asks for, to run and to develop, is in the lock."""
    asked = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["project"]["optional-dependencies"]["dev"],
    ]
    assert {normalised(requirement) for requirement in asked} <= locked("requirements.lock").keys()


def test_every_build_tool_is_locked() -> None:
    """So is what builds this project and its dependencies."""
    asked = [*PROJECT["build-system"]["requires"], *PROJECT["dependency-groups"]["build"]]
    assert {normalised(tool) for tool in asked} <= locked("requirements-build.lock").keys()


def test_locks_agree() -> None:
    """No package is pinned to two versions, one of which would undo the other."""
    run, build = (locked(lock) for lock in LOCKS)
    assert {name: run[name] for name in run.keys() & build.keys()} == {
        name: build[name] for name in run.keys() & build.keys()
    }


def test_no_file_names_a_machine_or_an_index() -> None:
    """Nothing in the repository holds only on the machine where it was written."""
    guilty = []
    for path in tracked_files():
        text = path.read_bytes().decode("utf-8", "replace")
        words = [word for word in REGISTRIES + INDEX_OPTIONS if word in text]
        if words or MACHINE_PATH.search(text):
            guilty.append((str(path.relative_to(ROOT)), words))
    assert guilty == []


def test_modules_are_short() -> None:
    """One module, one sentence: none grows into what nobody reads to its end."""
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_modules_say_what_they_are() -> None:
    """Each module, the empty ones too, opens with its sentence."""
    silent = [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_packages_are_typed() -> None:
    """Both packages tell type checkers that their annotations count."""
    assert [name for name in PACKAGES if not (ROOT / name / "py.typed").is_file()] == []


def test_every_room_has_a_layer() -> None:
    """A room of agent/ that no layer names would escape the rule that imports point down."""
    layers = PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name for layer in layers for name in re.findall(r"agent\.(\w+)", layer)}
    rooms = {
        path.relative_to(ROOT / "agent").parts[0].removesuffix(".py")
        for path in MODULES
        if path.is_relative_to(ROOT / "agent")
    }
    assert rooms - {"__init__"} <= named
