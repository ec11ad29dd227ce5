"""Frozen pieces of work, the store their artifacts live in, and the processes that run them. Knows no machine
learning."""
