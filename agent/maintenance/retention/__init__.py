"""Which snapshots are kept: rules, the law, holds; by the receiver's clock; stopped when in doubt.

policy     the fate of each snapshot, and why: a pure function
received   when each snapshot came, as far as its writer is believed
freeze     what stops retention until somebody has looked
notes      what it remembers: holds it has seen, signs somebody looked at
job        one run: decide, record, delete
"""
