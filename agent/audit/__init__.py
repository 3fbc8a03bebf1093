"""The record of who did what: append-only, hash-chained, signed, synced before anything happens.

Agent and gate each keep a chain of their own.  A directory holds three files:

    chain.jsonl   one record a line, each with the BLAKE3 of the line before
    head          how far the chain had come, signed; in place, so that a cut tail is noticed
    reserve       ballast: given up when the disk is full, so that the last records still fit

No patient's name, id, or path of a source goes in: vaults, users, sessions, counts, policies.
"""
