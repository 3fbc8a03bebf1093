"""One Argon2id computation at a time in a process.

OpenSSL gives the lanes of all computations to one pool of threads.  Two at once each hold some of
it while they wait for the rest: for ever, both.  (cryptography 50 makes the pool as large as one
computation wants.)  A turn each also bounds the memory: 64 MiB a login, however many come at once.
"""

import threading
from typing import Final

ARGON2_TURN: Final = threading.Lock()
