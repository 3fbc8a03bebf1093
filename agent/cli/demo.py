"""`vitrine demo`: the whole main job in a scratch directory, told step by step, cleaned up."""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from agent.cli.demo_hospital import COLLEAGUE, DOCTOR, Hospital, rename_patient
from agent.cli.output import number, size
from agent.cli.people import as_user
from agent.cli.terminal import console, styled
from agent.crypto.naming import object_name
from agent.errors import VitrineError


@click.command()
@click.option("--keep", is_flag=True, help="Leave the scratch directory for a look around.")
def demo(keep: bool) -> None:
    """Play the whole main job on real DICOM files.

    Protect them, change one, unlock both versions, lock, verify, recover.
    """
    with _scratch(keep) as directory:
        _Demo(Hospital(directory)).run()


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="vitrine-demo-"))
    directory.chmod(0o755)  # the doctor must reach the mount
    try:
        yield directory
    finally:
        if keep:
            console.print(f"\nEverything is left in {directory}.")
        else:
            shutil.rmtree(directory)


class _Demo:
    """The steps in order; each says what it is about to show, and fails if it does not."""

    def __init__(self, hospital: Hospital) -> None:
        self._hospital = hospital
        self._step = 0

    def run(self) -> None:
        """Play the whole story."""
        hospital = self._hospital
        self._say("A PACS directory, filled with pydicom's real DICOM files")
        files, total = hospital.fill()
        self._note(f"{number(files)} files, {size(total)}, in {hospital.pacs}")
        self._say("`vitrine init`: a repository, a vault, its keys, a recovery passphrase")
        hospital.found()
        self._note("the agent's key file can seal and name; it opens nothing")
        with hospital.running():
            self._protect()
            self._look()
            self._shut()
        self._recover()
        done = styled("bold green", "That is the whole of it.")
        console.print("\n", done, "  `vitrine --help` is next.", sep="")

    def _protect(self) -> None:
        hospital = self._hospital
        self._say("`vitrine up`: the agent sees the files and takes a first snapshot by itself")
        first = hospital.wait_for_snapshots(1)[-1]
        self._note(f"snapshot {first.id[:12]}: {number(first.files)} files, {size(first.bytes)}")
        self._say("A doctor is added: roles, department, password, token")
        hospital.add_doctor()
        self._note("in life the token is a QR code for an authenticator app")
        self._say("The PACS replaces a file: the patient's name is corrected")
        hospital.original = object_name(hospital.changing.read_bytes())
        rename_patient(hospital.changing)
        second = hospital.wait_for_snapshots(2)[-1]
        self._note(
            f"noticed by itself: snapshot {second.id[:12]} added {size(second.added_bytes)} "
            f"for a file of {size(hospital.changing.stat().st_size)}"
        )

    def _look(self) -> None:
        hospital = self._hospital
        self._say("A wrong code, and somebody who was never added: refused, and refused alike")
        wrong = hospital.unlock(DOCTOR, "000000")
        stranger = hospital.unlock(COLLEAGUE, hospital.doctor_code()) if hospital.is_root else wrong
        _expect(wrong.status == stranger.status == 31, f"status 31, not {wrong} and {stranger}")
        _expect(wrong.errors == stranger.errors, "in the same words")
        self._note(wrong.errors.strip().splitlines()[0])
        self._say("The doctor unlocks with password and token")
        opened = hospital.unlock(DOCTOR, hospital.doctor_code())
        _expect(opened.status == 0, opened.errors)
        hospital.note_mount(opened)
        self._note(f"mounted read-only at {hospital.mount}")
        self._say("Both versions of the file, read through the mount and compared")
        old, new = hospital.both_versions()
        now = object_name(hospital.changing.read_bytes())
        _expect((old, new) == (hospital.original, now), "each is what the PACS had then")
        self._note(f"then {old.hex()[:16]}…  now {new.hex()[:16]}…  (BLAKE3, both as they were)")
        self._refuse_others()

    def _refuse_others(self) -> None:
        hospital = self._hospital
        if not hospital.is_root:
            self._note("(not run as root, so another user and root cannot be tried here)")
            return
        self._say("Another user tries the same path; then root does")
        for who, uid in (("another user", COLLEAGUE), ("root", 0)):
            reason = as_user(uid, lambda: _reason_not_to_list(hospital.mount))
            _expect(reason == errno.EACCES, f"{who} is refused")
            self._note(f"{who}: {os.strerror(reason)}: by the kernel, which asks nobody")

    def _shut(self) -> None:
        hospital = self._hospital
        self._say("`vitrine lock`, while the doctor's viewer still has a file open")
        before, after = hospital.lock_while_reading()
        _expect(before == 0 and after != 0, "the open descriptor is refused")
        self._note(f"the open descriptor: {os.strerror(after)}; caches are empty, too")
        self._say("The audit chain, verified link by link")
        self._note(hospital.vitrine("audit", "verify").output.strip())
        for line in hospital.audit_lines():
            self._note(line)

    def _recover(self) -> None:
        hospital = self._hospital
        self._say("All services are gone.  `vitrine recover`: repository and passphrase alone")
        target = hospital.recover()
        _expect(_content(target / "pacs") == _content(hospital.pacs), "nothing differs")
        self._note("compared with the PACS byte for byte: no difference")

    def _say(self, text: str) -> None:
        self._step += 1
        console.print(styled("bold", f"\n{self._step:2}  {text}"))

    def _note(self, text: str) -> None:
        console.print(f"    {text}")


def _expect(truth: bool, what: str) -> None:
    if not truth:
        raise VitrineError(f"the demo expected something else: {what}")


def _reason_not_to_list(path: Path) -> int:
    try:
        next(path.iterdir(), None)
    except OSError as error:
        return error.errno or 0
    return 0


def _content(root: Path) -> dict[Path, bytes]:
    """Return every file below `root` and what is in it."""
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}
