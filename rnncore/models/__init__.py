"""Recurrent networks that are no cells: reservoirs, associative memories."""
