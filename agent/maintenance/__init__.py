"""Keeping a repository for years: what is thinned out, deleted, checked, healed and rehearsed."""
