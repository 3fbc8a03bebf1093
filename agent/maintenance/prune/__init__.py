"""Deleting what no snapshot needs: note, wait, condemn, wait, look again, delete.

marks      which chunks are needed, a bit each
walk       from the snapshots to every chunk
waste      how much of each pack is needed, and which are rewritten
fates      what becomes of each pack: a pure function of the record before
rewrite    needed chunks out of packs that are mostly not
sweep      the last look, then index, packs, old records
job        one run, in this order
report     its figures
"""
