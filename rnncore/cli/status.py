"""The exit statuses of the command."""

BUG = 1
BAD_INPUT = 2
INTERRUPTED = 130
