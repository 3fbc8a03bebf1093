"""Benchmarks: Vitrine beside its peers, on trees that are made, and said to be so.

pixels, painters, images, records, database  what a hospital-like tree is made of
hospital, next_day, small_files              the trees, and a day's changes
measure, results                             what an act costs, and the medians
tool, ours, restic                           the programs measured, behind one contract
cases, daemon                                what is measured
report, __main__                             the table, and docs/benchmarks.md
"""
