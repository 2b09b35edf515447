"""The rule language: it knows no kernel and no daemon."""
