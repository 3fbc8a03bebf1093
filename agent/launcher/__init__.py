"""The one process that is root: mounts, and starts one worker a session, on the gate's word.

    service    who is heard, what may be asked
    workers    a worker's life, from its first descriptor to the last of its mount
    target     where a restore may write
    mounting   system calls

It holds no key, opens no repository, and reads no message but the gate's.
"""

from agent.launcher.service import Settings, run

__all__ = ["Settings", "run"]
