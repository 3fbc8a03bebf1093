"""Policy files: a mistake is found when they are loaded, and named with file, line and policy."""

from pathlib import Path

import pytest

from agent.errors import ConfigInvalid
from agent.gate.policy import Action, Circumstances, Person, Policy, VaultTarget
from agent.gate.policytext import PolicyFile, load_policies, statements

GOOD = '@id("good")\npermit (principal, action == Action::"status", resource);\n'
UNLOCK = '@id("x")\npermit (principal, action == Action::"unlock", resource)\n'
VAULT = VaultTarget("radiology", "radiology", 4)


def site(directory: Path, *texts: str) -> Path:
    """Write a site's policy files, a.cedar, b.cedar, …; return their directory."""
    for name, text in zip("abc", texts, strict=False):
        (directory / f"{name}.cedar").write_text(text)
    return directory


def refused(directory: Path, *texts: str) -> str:
    """Return what is wrong with these files; fail if nothing is."""
    with pytest.raises(ConfigInvalid) as caught:
        Policy(site(directory, *texts))
    return caught.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("permit (principal,\naction resource);", "line 4: unexpected token"),
        ('@id("x")\npermit (principal, action, resource) when { 1 == };', "line 4: unexpected"),
        ('@id("x")\npermit (principal, action, resource)', "line 4: unexpected end"),
        ("permit (principal, action, resource);", "line 4: the policy has no name"),
        ('@id("")\npermit (principal, action, resource);', "line 4: the policy has no name"),
        ('@id("x")\npermit (principal == ?principal, action, resource);', "line 4: a template"),
        (
            '@id("x")\npermit (principal, action == Action::"unlok", resource);',
            "line 4: policy 'x': unrecognized action `Action::\"unlok\"`",
        ),
        (
            UNLOCK + 'when { principal.role.contains("doctor") };',
            "line 4: policy 'x': attribute `role` on entity type `VitrineUser` not found",
        ),
        (
            UNLOCK + 'when { resource.level < "four" };',
            "line 4: policy 'x': unexpected type",
        ),
        (
            UNLOCK + 'when { context.purpose == "x" };',
            "line 4: policy 'x': unable to guarantee safety of access to optional attribute",
        ),
        ('@id("good")\nforbid (principal, action, resource);', "line 4: @id('good') is that of"),
        ("}", "line 4: "),
        ('"', "line 4: "),
        (";", "line 4: "),
    ],
)
def test_mistake_is_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    """In the second file, after a comment with a `;` and a blank line."""
    second = f'// one; two "three\n\n   // and four\n{text}'
    found = refused(tmp_path, GOOD, second)
    assert found.startswith("b.cedar, ")
    assert message in found


def test_line_is_that_of_the_policy_at_fault(tmp_path: Path) -> None:
    """Of several policies in a file, the wrong one is named."""
    text = f'{GOOD}\n{GOOD.replace("good", "other; //")}\n@id("bad")\npermit (principal, x, y);'
    assert refused(tmp_path, text).startswith("a.cedar, line 7: ")


def test_site_replaces_what_is_shipped(tmp_path: Path) -> None:
    """With policies of its own, a site has none of ours."""
    officer = Person(1, frozenset({"it-head"}))
    doctor = Person(2, frozenset({"doctor"}), frozenset({"radiology"}))
    both = frozenset({"password", "token"})
    text = (
        '@id("it-head-unlocks-by-day")\npermit (principal, action == Action::"unlock", resource)\n'
        'when { principal.roles.contains("it-head") && context.hour >= 8 && context.hour < 18 };'
    )
    policy = Policy(site(tmp_path, GOOD, text))
    assert policy.ids == ("good", "it-head-unlocks-by-day")
    assert not policy.decide(doctor, Action.UNLOCK, VAULT, Circumstances(9, "h", both)).allowed
    day = policy.decide(officer, Action.UNLOCK, VAULT, Circumstances(9, "h"))
    assert (day.allowed, day.policies) == (True, ("it-head-unlocks-by-day",))
    assert not policy.decide(officer, Action.UNLOCK, VAULT, Circumstances(3, "h")).allowed


def test_prohibition_that_fails_to_evaluate_refuses(tmp_path: Path) -> None:
    """Cedar skips a policy that overflows; we do not let what it would have forbidden pass."""
    text = (
        '@id("all")\npermit (principal, action, resource);\n'
        '@id("over")\nforbid (principal, action == Action::"unlock", resource)\n'
        "when { 9223372036854775807 + resource.level > 0 };"
    )
    policy = Policy(site(tmp_path, text))
    who = Person(1, frozenset({"doctor"}))
    assert not policy.decide(who, Action.UNLOCK, VAULT, Circumstances(9, "h")).allowed
    assert policy.decide(who, Action.RESTORE, VAULT, Circumstances(9, "h")).allowed


def test_digest_changes_with_every_byte_and_name(tmp_path: Path) -> None:
    """The hash in a record tells exactly which text decided."""
    shipped = Policy().digest
    texts = ((GOOD,), (f"{GOOD}//",), (GOOD, "//"), (f"{GOOD}//\n", ""))
    digests = {Policy(site(tmp_path, *each)).digest for each in texts}
    assert len(digests | {shipped}) == len(texts) + 1
    assert Policy().digest == shipped


def test_no_policy_is_a_mistake(tmp_path: Path) -> None:
    """An empty or missing directory would lock everybody out: better said than done."""
    assert "no policy" in refused(tmp_path)
    assert "no policy" in refused(tmp_path, "// nothing here\n")
    with pytest.raises(ConfigInvalid, match="No such file"):
        Policy(tmp_path / "nowhere")


def test_unreadable_file_is_a_mistake(tmp_path: Path) -> None:
    """Not UTF-8, or a directory by that name."""
    (tmp_path / "a.cedar").write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match="UTF-8"):
        Policy(tmp_path)
    (tmp_path / "a.cedar").unlink()
    (tmp_path / "a.cedar").mkdir()
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        Policy(tmp_path)


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    """A README or an editor's copy is no policy."""
    (tmp_path / "README").write_text("permit everything")
    (tmp_path / "a.cedar~").write_text("permit")
    assert Policy(site(tmp_path, GOOD)).ids == ("good",)


def test_policies_are_cut_at_their_ends_only() -> None:
    """Semicolons in strings and comments, escaped quotes and slashes are part of a policy."""
    text = '// a;b\n@id("x;\\"y//")permit(1 / 2);//;\n\n permit\n;'
    found = list(statements(PolicyFile("f", text)))
    assert [(s.line, s.text) for s in found] == [
        (2, '@id("x;\\"y//")permit(1 / 2);'),
        (4, "permit\n;"),
    ]


def test_shipped_policies_are_valid_and_named() -> None:
    """What we ship loads, and its names are distinct."""
    text = load_policies(None)
    assert len(set(text.ids)) == len(text.ids) > 15
