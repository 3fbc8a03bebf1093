"""One process a session: a read-only mount of what one person may see, while they may see it.

main         wiring: descriptors and grant in, mount out, in order
operations   the pyfuse3 adapter, a few lines a handler
answering    what stands around each: the lock, errors as errnos
attributes   what stat(2) shows
handles      what is open
mount        how the mount begins, is served and ends
lock         refuse, invalidate, tell the gate
gatekeeper   what the gate is asked and told
content      bytes of a file from its extents
inodes       which numbers the kernel holds
view         what a set of snapshots looks like as files
cache        decoded pages in bounded memory
ahead  walk  reading ahead: through a file, and from file to file
"""
