"""The benchmarks' trees: the same seed, the same bytes; what is promised is there."""

import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pydicom
import pytest

from benchmarks import database, hospital, small_files
from benchmarks.next_day import Changes, next_day

FILES, BYTES = 200, 12_000_000


def content(tree: Path) -> dict[str, bytes]:
    """Return the digest of every file below `tree`, by its path there."""
    return {
        str(path.relative_to(tree)): sha256(path.read_bytes()).digest()
        for path in tree.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small tree that no test changes."""
    directory = tmp_path_factory.mktemp("hospital")
    hospital.generate(directory, FILES, BYTES, 1)
    return directory


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """Return a tree made apart from the first, with the same seed."""
    hospital.generate(tmp_path, FILES, BYTES, 1)
    return tmp_path


def images(tree: Path) -> Iterator[pydicom.Dataset]:
    """Yield every image below `tree`."""
    yield from (pydicom.dcmread(path) for path in (tree / "pacs").rglob("*") if path.is_file())


def test_the_same_seed_makes_the_same_bytes_twice(tree: Path, another: Path) -> None:
    """Two runs of a benchmark measure the same work, today's and next year's."""
    assert content(tree) == content(another)


def test_another_seed_makes_other_files(tree: Path, tmp_path: Path) -> None:
    """The seed reaches names and content."""
    hospital.generate(tmp_path, FILES, BYTES, 2)
    one, other = content(tree), content(tmp_path)
    assert not set(one.values()) & set(other.values())


def test_a_tree_has_the_files_and_about_the_bytes_that_were_asked_for(tmp_path: Path) -> None:
    """Figures are per file and per byte, so both must be right."""
    hospital.generate(tmp_path, 500, 60_000_000, 1)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert len(sizes) == 500
    assert sum(sizes) == pytest.approx(60_000_000, rel=0.1)


def test_no_two_files_are_the_same(tree: Path) -> None:
    """Nothing is deduplicated by accident of generation."""
    digests = list(content(tree).values())
    assert len(set(digests)) == len(digests)


def test_every_image_parses_and_has_pixels_of_the_length_its_header_says(tree: Path) -> None:
    """A cutter that understands DICOM meets well-formed files."""
    found: set[str] = set()
    for image in images(tree):
        found.add(image.get("Modality", ""))
        assert image.SOPInstanceUID == image.file_meta.MediaStorageSOPInstanceUID
        if not image.file_meta.TransferSyntaxUID.is_compressed:
            frames = int(image.get("NumberOfFrames", 1))
            samples = image.Rows * image.Columns * image.SamplesPerPixel * frames
            assert len(image.PixelData) == samples * image.BitsAllocated // 8
    assert {"CT", "MR", "CR", "XA", "US"} <= found


def test_identities_are_unique(tree: Path) -> None:
    """A catalogue keyed by SOP Instance UID finds each image once."""
    uids = [image.SOPInstanceUID for image in images(tree)]
    assert len(set(uids)) == len(uids)


def test_small_compressed_files_are_there_and_are_unlike(tmp_path: Path) -> None:
    """Re-used compressed pixels are not the same chunk in every file."""
    hospital.generate(tmp_path, 400, 20_000_000, 3)
    pixels = [
        image.PixelData
        for image in images(tmp_path)
        if image.file_meta.TransferSyntaxUID.is_compressed
        and "RLE" not in image.file_meta.TransferSyntaxUID.name
    ]
    assert pixels
    assert len(set(pixels)) == len(pixels)


def test_the_database_knows_every_image_and_record(tree: Path) -> None:
    """A restored tree can be checked against its own database."""
    with sqlite3.connect(f"file:{tree / database.PATH}?mode=ro", uri=True) as db:
        known = dict(db.execute("SELECT path, bytes FROM images"))
        records = {path for (path,) in db.execute("SELECT path FROM records")}
    db.close()
    on_disk = {
        str(path.relative_to(tree)): path.stat().st_size
        for path in (tree / "pacs").rglob("*")
        if path.is_file()
    }
    assert known == on_disk
    assert all((tree / path).is_file() for path in records)


def test_next_day_does_to_the_tree_what_it_says(tree: Path, another: Path) -> None:
    """Every difference between the two days is in the list, and nothing else is."""
    before = content(tree)
    changes: Changes = next_day(another, 5)
    after = content(another)
    merged, renamed = dict(changes.merged), dict(changes.renamed)
    came = {*changes.added, *merged.values(), *renamed.values()}
    went = {*changes.deleted, *merged, *renamed}
    assert all(changes)
    assert after.keys() - before.keys() == came
    assert before.keys() - after.keys() == went
    changed = {path for path in before.keys() & after.keys() if before[path] != after[path]}
    assert changed == {*changes.appended, str(database.PATH)}
    assert all(after[new] == before[old] for old, new in renamed.items())


def test_a_merge_changes_the_header_and_leaves_the_pixels(tree: Path, another: Path) -> None:
    """That is what cutting a file at its pixels is to profit from."""
    for old, new in next_day(another, 5).merged:
        was, became = pydicom.dcmread(tree / old), pydicom.dcmread(another / new)
        assert was.PatientID != became.PatientID
        assert was.PixelData == became.PixelData
        assert was.SOPInstanceUID == became.SOPInstanceUID


def test_an_addendum_leaves_what_was_written(tree: Path, another: Path) -> None:
    """Records grow at their end."""
    for path in next_day(another, 5).appended:
        assert (another / path).read_bytes().startswith((tree / path).read_bytes())


def test_next_day_is_the_same_for_the_same_seed(another: Path, tmp_path: Path) -> None:
    """Each tool meets the same second day."""
    twin = tmp_path / "twin"
    hospital.generate(twin, FILES, BYTES, 1)
    assert next_day(another, 7) == next_day(twin, 7)
    known = content(another)
    assert content(twin).items() <= known.items()


def test_a_tree_too_small_for_its_kinds_is_refused(tmp_path: Path) -> None:
    """Better none than one that lacks half of what is measured."""
    with pytest.raises(ValueError, match="too few files"):
        hospital.generate(tmp_path, 10, 1_000_000, 1)


def test_small_files_are_as_many_as_asked_for_and_change_where_said(tmp_path: Path) -> None:
    """Three changes touch three files in three directories."""
    small_files.generate(tmp_path, 90, 9, 1)
    before = content(tmp_path)
    changed = {str(path.relative_to(tmp_path)) for path in small_files.change(tmp_path, 3, 1)}
    after = content(tmp_path)
    assert len(before) == 90
    assert {path for path in before if before[path] != after[path]} == changed
    assert len({Path(path).parent for path in changed}) == 3


def test_sizes_may_be_given_in_units() -> None:
    """`1.3G` is decimal, as disks are sold."""
    assert [hospital.size_of(text) for text in ("1.3G", "2M", "5K", "7")] == [
        1_300_000_000,
        2_000_000,
        5_000,
        7,
    ]
