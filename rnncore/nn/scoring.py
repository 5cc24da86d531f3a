"""How well a network predicts targets it does not learn from: losses and log-probabilities, without probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnncore.nn import order
from rnncore.nn import outputs as places
from rnncore.nn.custom import CustomHead, called

#: heads by name whose targets have a probability each
LIKELY = ("softmax", "adaptive", "sampled", "ctc")


class ScoresTargets:
    """What a network says of given targets; any number of threads may ask at once."""

    def loss(
        self: Any,
        x: Any,
        targets: Any,
        lengths: Any = None,
        state: Any = None,
        sample_weight: Any = None,
        feedback: Any = None,
        return_state: bool = False,
        target_lengths: Any = None,
    ) -> Any:
        """Return the mean loss of a batch without training: no dropout, no gradients, nothing kept.

        With many classes it needs no memory for all their scores: rows are taken in blocks. Any number of threads may
        call at once.

        Parameters
        ----------
        x, targets, lengths, state, sample_weight, feedback, target_lengths
            As for ``loss_and_grad``.
        return_state : bool
            Return a pair, the second of which is the final state: a long text is scored in chunks.

        Returns
        -------
        float
            What ``loss_and_grad`` returns where there is no dropout. Mean over counted targets: ``batch_weight`` says
            how many. 0 where none counts.

        Raises
        ------
        ValueError
            For arrays that do not fit.

        Examples
        --------
        A text in two chunks:

        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("gru", 9, 5), head=rc.Softmax(9))
        >>> text = np.arange(61).reshape(-1, 1) ** 2 % 9
        >>> first, state = net.loss(text[:30], text[1:31], return_state=True)
        >>> second = net.loss(text[30:-1], text[31:], state=state)
        >>> bool(np.isclose((first + second) / 2, net.loss(text[:-1], text[1:])))
        True
        """
        if target_lengths is not None:
            targets = places.ended(self.outputs, targets, target_lengths)
        if self.batch_first:
            x, feedback, targets = self._time_first(x, feedback, targets)
        batch = self._check(x, lengths, state, feedback)
        wanted = self._check_targets(targets, batch)
        weights = None if sample_weight is None else self._check_weights(sample_weight, batch, wanted)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            total = 0.0
            for part, kernel, one in zip(self.outputs, space.heads, wanted, strict=True):
                if one is None and part.name:
                    continue
                features = batch.features(part)
                if isinstance(part.head, CustomHead):
                    scores = kernel.forward(space.layers, self._theta, False, *features)
                    total += called(part.head, scores, one, batch.sizes, weights)[0] * part.factor
                else:
                    total += kernel.loss(space.layers, self._theta, one, *features, weights, part.factor)
            final = self.join_state(space.layers.final_states()) if return_state else None
            self._idle[batch.kind].append(space)
        return (total, final) if return_state else total

    def log_likelihood(
        self: Any,
        x: Any,
        targets: Any,
        lengths: Any = None,
        state: Any = None,
        return_state: bool = False,
        target_lengths: Any = None,
    ) -> Any:
        """Return the logarithm of the probability of each target, without the probabilities of all others.

        Class weights and label smoothing do not count. Any number of threads may call at once.

        Parameters
        ----------
        x, targets, lengths, state, target_lengths
            As for ``loss_and_grad``; every head must be a softmax or a CTC.
        return_state : bool
            Return a pair, the second of which is the final state.

        Returns
        -------
        float64 array (T, B), or (B,) for a head with pooling and for a CTC; or a dict of them
            Zero where a target is -1, and past a sequence's end.

        Raises
        ------
        ValueError
            For other heads, and arrays that do not fit.

        Examples
        --------
        >>> import numpy as np, rnncore as rc
        >>> net = rc.Network(rc.Recurrent("gru", 9, 5), head=rc.Softmax(9))
        >>> text = np.arange(12).reshape(-1, 1) ** 2 % 9
        >>> found = net.log_likelihood(text[:-1], text[1:])
        >>> found.shape, bool(np.isclose(-found.mean(), net.loss(text[:-1], text[1:])))
        ((11, 1), True)
        """
        for part in self.outputs:
            if part.head.name not in LIKELY:
                raise ValueError(
                    f"log_likelihood needs heads that give each target a probability of its own ({', '.join(LIKELY)}), "
                    f"not {part.head.name}: use loss"
                )
        if target_lengths is not None:
            targets = places.ended(self.outputs, targets, target_lengths)
        if self.batch_first:
            x, _, targets = self._time_first(x, None, targets)
        batch = self._check(x, lengths, state, None)
        wanted = self._check_targets(targets, batch)
        with self._access.reading:
            space = self._space(batch.kind)
            self._run(space, batch, None)
            found: list[np.ndarray | None] = [
                None if one is None else kernel.log_likelihood(space.layers, self._theta, one, *batch.features(part))
                for part, kernel, one in zip(self.outputs, space.heads, wanted, strict=True)
            ]
            final = self.join_state(space.layers.final_states()) if return_state else None
            self._idle[batch.kind].append(space)
        if self.head is None:
            result: Any = {
                part.name: order.batch_first(one) if self.batch_first and part.targets_by_step else one
                for part, one in zip(self.outputs, found, strict=True)
                if one is not None
            }
        else:
            result = places.joined(self.outputs, found)
            result = order.batch_first(result) if self.batch_first and self.outputs[0].targets_by_step else result
        return (result, final) if return_state else result
