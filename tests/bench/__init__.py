"""`make bench`: what bpfd costs and what it can take, in one table from one run. Benchmarks, not tests."""
