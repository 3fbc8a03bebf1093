"""What a repository is made of: packs, indexes, trees, snapshots, vaults (docs/format.md)."""
