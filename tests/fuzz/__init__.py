"""Fuzz targets: one for each decoder, driven by coverage (atheris, libFuzzer).

target      what a target is: bytes in, nothing but documented errors out
imaging …   the targets, a module for each kind of decoder
registry    all of them; and which modules decode what no target need cover, and why
child       one target in a process of its own: libFuzzer's command line
running     seeds, limits and results of such a process
found       what was found once, and is tried by every test run since
"""
