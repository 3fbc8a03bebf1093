"""`vitrine status`: is every source protected, and how old is the last snapshot?"""

from pathlib import Path

import click
from rich.text import Text

from agent.cli.lastverify import described, last_verification
from agent.cli.output import ago, counted, json_option, number, print_json
from agent.cli.place import ask_agent, ask_gate, client, config_dir_option
from agent.cli.terminal import console, styled, table
from agent.config import ClientConfig
from agent.control.agent_messages import AgentStatus, AskAgentStatus, SourceStatus
from agent.control.gate_messages import AskGateStatus, GateStatus
from agent.errors import VitrineError

_STATE_STYLE = {"watching": "green", "failing": "bold red", "missing": "bold red"}


@click.command()
@json_option
@config_dir_option
def status(as_json: bool, config_dir: Path) -> int:
    """Show every source, and how the services are.

    Exit status 1 if a source is unprotected, or a service does not answer.
    """
    place = client(config_dir)
    agent = _agent(place, config_dir)
    gate = _gate(place, config_dir)
    verified = last_verification(config_dir)
    if as_json:
        print_json({"agent": _plain(agent), "gate": _plain(gate), "verified": verified})
    else:
        _show(agent, gate)
        if verified is not None:
            console.print("Verification:", *described(verified))
    problems = isinstance(agent, VitrineError) or isinstance(gate, VitrineError)
    return int(problems or any(s.problem for s in getattr(agent, "sources", ())))


def _agent(place: ClientConfig, config_dir: Path) -> AgentStatus | VitrineError | None:
    if not place.agent_socket:
        return None
    try:
        return ask_agent(config_dir, AskAgentStatus(), AgentStatus)
    except VitrineError as error:
        return error


def _gate(place: ClientConfig, config_dir: Path) -> GateStatus | VitrineError | None:
    if not place.gate_socket:
        return None
    try:
        return ask_gate(config_dir, AskGateStatus(), GateStatus)
    except VitrineError as error:
        return error


def _plain(answer: AgentStatus | GateStatus | VitrineError | None) -> object:
    if isinstance(answer, VitrineError):
        return {"error": type(answer).__name__, "message": answer.message, "hint": answer.hint}
    return answer


def _show(agent: AgentStatus | VitrineError | None, gate: GateStatus | VitrineError | None) -> None:
    if isinstance(agent, AgentStatus):
        columns = ("SOURCE", "VAULT", "LAST SNAPSHOT", "LAG", "FILES", "STATE")
        table(columns, [_row(source) for source in agent.sources], right="FILES", long="SOURCE")
        for source in agent.sources:
            if source.problem:
                console.print(styled("bold red", source.path), f": {source.problem}", sep="")
    elif agent is not None:
        console.print(styled("bold red", "Agent:"), f"{agent.message}\n       {agent.hint}")
    if isinstance(gate, GateStatus):
        open_now = counted(gate.sessions, "session")
        console.print(f"Repository {gate.repository} · {open_now} open")
    elif gate is not None:
        console.print(styled("bold red", "Gate:"), f"{gate.message}\n      {gate.hint}")


def _row(source: SourceStatus) -> tuple[str | Text, ...]:
    style = _STATE_STYLE.get(source.state, "yellow")
    return (
        source.path,
        source.vault,
        ago(source.last_snapshot_ns) if source.last_snapshot_ns else "none yet",
        f"since {ago(source.dirty_since_ns)}" if source.dirty_since_ns else "ok",
        number(source.files),
        styled(style, source.state),
    )
