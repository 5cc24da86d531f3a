"""Benches of rnncore beside its peers: `python -m bench COMMAND`; `--help` lists them.

Run from a checkout with an editable install. Nothing here is needed to use rnncore, and no peer is required: a
missing one leaves its column empty.
"""
