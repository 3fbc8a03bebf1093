"""Benchmarks, on trees that are made, and said to be so.

pixels, painters, images, records, database  what a hospital-like tree is made of
hospital, next_day, small_files              the trees, and a day's changes
"""
