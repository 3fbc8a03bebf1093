"""`vitrine canary`: studies that look like their neighbours, known to the agent alone."""

import os
from io import BytesIO
from pathlib import Path

import msgspec
import pydicom
import pytest

from agent.backup.canaries import Canaries
from agent.cli.canary import CanaryLine
from agent.cli.canary_study import images, new_paths
from agent.cli.people import Said, vitrine_as
from agent.config import AgentVaultConfig, SourceConfig, save
from agent.encode.dicom import read_header
from tests.fakes.agents import AgentOnDisk

NOW_NS = 1_800_000_000 * 10**9
OWNER = 65_043


@pytest.fixture
def agent(tmp_path: Path) -> AgentOnDisk:
    """Return an agent whose state exists, as after its first start."""
    agent = AgentOnDisk(tmp_path)
    (tmp_path / "state" / agent.vault.writer.vault.hex()).mkdir(parents=True)
    return agent


def canary(agent: AgentOnDisk, *words: str) -> Said:
    """Run `vitrine canary`."""
    return vitrine_as(os.geteuid(), ["canary", *words, "--config-dir", str(agent.scratch)])


def listed(agent: AgentOnDisk) -> list[CanaryLine]:
    """Return what is listed."""
    return msgspec.json.decode(canary(agent, "list", "--json").output, type=list[CanaryLine])


def registered(agent: AgentOnDisk) -> Canaries:
    """Return what the agent reads."""
    return Canaries(agent.scratch / "state" / agent.vault.writer.vault.hex())


def test_its_images_are_a_study_that_any_parser_takes() -> None:
    """One study and series, images of their own, of a phantom and not of a person."""
    made = [pydicom.dcmread(BytesIO(data)) for data in images(3, NOW_NS)]
    assert len({one.StudyInstanceUID for one in made}) == 1
    assert len({one.SOPInstanceUID for one in made}) == 3
    assert {str(one.PatientName) for one in made} == {"PHANTOM^WATER"}
    assert made[0].pixel_array.shape == (256, 256)
    data = next(images(2, NOW_NS))
    header = read_header(memoryview(data), len(data))
    assert header.identity is not None
    assert header.layout is not None


@pytest.mark.root
def test_it_lies_and_is_named_as_its_neighbours_and_belongs_to_whom_they_do(
    agent: AgentOnDisk,
) -> None:
    """Also who encrypts with the PACS's rights alone can touch it."""
    for day in ("20250101-1111", "20250102-2222"):
        (agent.source / day).mkdir()
        (agent.source / day / "scan.IMA").write_bytes(b"image")
    os.chown(agent.source, OWNER, OWNER)
    assert canary(agent, "add", str(agent.source)).status == 0
    paths = [Path(one.path) for one in listed(agent)]
    assert {path.suffix for path in paths} == {".IMA"}
    (parent,) = {path.parent for path in paths}
    assert parent.name not in {"20250101-1111", "20250102-2222"}
    assert parent.name.replace("-", "").isdigit()
    assert {(path.stat().st_uid, path.parent.stat().st_uid) for path in paths} == {(OWNER, OWNER)}
    assert all(path.stat().st_mtime < agent.file.stat().st_mtime - 86_400 for path in paths)


def test_in_an_orthanc_storage_it_has_the_paths_that_orthanc_makes(tmp_path: Path) -> None:
    """Two levels of hexadecimal digits, and a UUID that begins with them."""
    (tmp_path / "a0" / "3f").mkdir(parents=True)
    for path in new_paths(tmp_path, 3):
        top, below, name = path.relative_to(tmp_path).parts
        assert name.startswith(top + below)
        assert [len(part) for part in name.split("-")] == [8, 4, 4, 4, 12]


def test_the_list_says_whether_they_are_whole(agent: AgentOnDisk) -> None:
    """As the files are now, with a status that a script can ask for."""
    assert "No canary yet" in canary(agent, "list").output
    canary(agent, "add", str(agent.source), "--images", "2")
    assert canary(agent, "list").status == 0
    one, other = (Path(line.path) for line in listed(agent))
    one.write_bytes(b"other")
    other.unlink()
    assert [line.state for line in listed(agent)] == ["changed", "missing"]
    assert canary(agent, "list").status == 1


def test_removing_takes_the_files_and_the_directories_that_were_theirs(agent: AgentOnDisk) -> None:
    """Those of one study, or all; the source is as it was."""
    (agent.source / "kept").write_bytes(b"kept")
    canary(agent, "add", str(agent.source))
    canary(agent, "add", str(agent.source))
    first = listed(agent)[0].study
    assert canary(agent, "remove", "nowhere").status == 62
    assert canary(agent, "remove", first).status == 0
    assert {line.study for line in listed(agent)} != {first}
    assert canary(agent, "remove").status == 2
    assert canary(agent, "remove", "--all").status == 0
    assert registered(agent).read() == ()
    assert os.listdir(agent.source) == ["kept"]


def test_where_patterns_leave_it_out_or_nothing_is_protected_none_is_made(
    agent: AgentOnDisk,
) -> None:
    """It would never be looked at."""
    config = msgspec.structs.replace(
        agent.config,
        vault=(AgentVaultConfig("radiology", str(agent.keys),
                                (SourceConfig(str(agent.source), include=("*.pdf",)),)),),
    )  # fmt: skip
    save(agent.file, config, 0o600)
    refused = canary(agent, "add", str(agent.source))
    assert refused.status == 50
    assert "patterns leave out" in refused.errors
    assert canary(agent, "add", "/elsewhere").status == 62
    assert os.listdir(agent.source) == []


def test_before_the_agents_first_start_there_is_nowhere_to_note_it(tmp_path: Path) -> None:
    """Nothing is written into the source that nobody would watch."""
    agent = AgentOnDisk(tmp_path)
    refused = canary(agent, "add", str(agent.source))
    assert (refused.status, os.listdir(agent.source)) == (2, [])
    assert "start the agent once" in refused.errors
