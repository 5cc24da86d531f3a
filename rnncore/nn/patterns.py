"""Parameters picked by patterns of their names, as ``layers.0.*`` picks all of the first layer."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnncore.nn.layout import Layout


def matching(pattern: Any, names: Iterable[str], what: str) -> list[str]:
    """Return the names that a pattern fits; ``*`` stands for anything, dots too, ``?`` for one character.

    Raises
    ------
    ValueError
        If none does; the message names them all.

    Examples
    --------
    >>> matching("*.b_?", ["layers.0.fwd.b_h", "head.W_hy", "head.b_y"], "freeze")
    ['layers.0.fwd.b_h', 'head.b_y']
    """
    names = list(names)
    if not isinstance(pattern, str):
        raise ValueError(f"{what}: a pattern is a string such as 'layers.0.*', got {pattern!r}")
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ValueError(f"{what}: no parameter fits {pattern!r}; there are {', '.join(names)}")
    return found


class Freezable:
    """What layers and networks have: parameters that an optimizer leaves as they are.

    Who freezes a parameter marks it where it belongs, in its layer, so that a layer and the network it stands in agree.
    """

    layout: Layout
    _frozen: frozenset[str]

    def _homes(self) -> dict[str, tuple[Freezable, str]]:
        """Return for each parameter who it belongs to, and its name there."""
        return {name: (self, name) for name in self.layout.shapes}

    def freeze(self, *patterns: str) -> None:
        """Let optimizers leave the parameters that fit a pattern as they are: no update, no decay, no bound.

        Their gradient is still there to read, but it does not count for ``clip_norm``. What an optimizer remembers of
        them stays as it is, too. Other ways to write to them, such as ``params``, are open. Sessions, pickles, copies
        and model files keep them frozen.

        Parameters
        ----------
        *patterns : str
            Names in ``params``; ``*`` stands for anything, dots too.

        Raises
        ------
        ValueError
            For a pattern that fits no parameter; nothing has been changed then.

        Examples
        --------
        >>> import rnncore as rc
        >>> net = rc.Network(rc.Recurrent("elman", 4, 8, num_layers=2), head=rc.Softmax(3))
        >>> net.freeze("layers.0.*", "head.b_y")
        >>> net.unfreeze("*.b_h")
        >>> net.frozen
        ('layers.0.fwd.W_xh', 'layers.0.fwd.W_hh', 'head.b_y')
        """
        self._mark(patterns, "freeze")

    def unfreeze(self, *patterns: str) -> None:
        """Let optimizers update the parameters that fit a pattern again; see ``freeze``."""
        self._mark(patterns, "unfreeze")

    def _mark(self, patterns: tuple[str, ...], what: str) -> None:
        homes = self._homes()
        for name in [name for pattern in patterns for name in matching(pattern, homes, what)]:
            owner, own = homes[name]
            owner._frozen = owner._frozen | {own} if what == "freeze" else owner._frozen - {own}

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that optimizers leave as they are."""
        return tuple(name for name, (owner, own) in self._homes().items() if own in owner._frozen)
