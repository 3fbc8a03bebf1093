"""Vitrine: continuous, encrypted backup with its history behind glass.

How a byte travels in, and out again; imports point down this list only:

    cli                          the command line
    agentd  gated  maintained    one process each: wiring, nothing else
    agentrun                     what the agent does as a daemon and once: wiring, too
    backup  gate  restore        watch and store | decide and record | put back
    drill                        recovery rehearsed, above what it rehearses
    maintenance                  thin out, delete, check, heal, rehearse
    repository  audit            packs, index, trees, snapshots | the hash-chained record
    encode  crypto  store        where to cut, how to squeeze | keys | named bytes
    model  control  config       values | messages over Unix sockets | TOML to dataclasses
    clock  errors
"""
