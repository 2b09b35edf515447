"""Everything that touches BPF; nobody else does."""
