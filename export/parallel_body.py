"""``SelectiveScan`` without a loop, for compilers that take neither plugins nor ``Scan``.

The tokens are cut into chunks of eight, and every chunk takes the same eight steps at once:

1. The state that a chunk leaves when it starts from zero is the sum of its tokens' inputs, each
   decayed by ``exp(A w)`` with w the sum of the steps after it in the chunk. The decay over the
   whole chunk is ``exp(A W)`` with W the sum of all its steps.
2. A scan over the chunks gives the state that each starts from: chunks of chunks in the same
   way, down to 64, and for those the doubling of W. D. Hillis and G. L. Steele, "Data
   parallel algorithms", 1986: ``h += exp(A W) shift(h)``.
3. Each chunk runs again from its true start, and y is the sum over states of C h.

Decays come from sums of steps, never from quotients, and only multiply: one that underflows to 0
is right, and with steps of 0 and more, as softplus gives them, none exceeds 1. Everything is
float32, and nothing is a matrix product, which compilers may round to TensorFloat-32.

Nothing of size L x D x N exists, unlike in a doubling over all tokens: the largest tensors hold
the states of the chunks, an eighth of that. For SegMamba's first stage (L 262,144, D 96, N 16)
that is 200 MB each instead of 1.6 GB. TensorRT-RTX fuses the eight steps of a pass into one
kernel; longer chunks would be split over several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnx
from onnx import helper

from segmaformer.export.function_body import ScanSignature, function_around

CHUNK = 8
"""Number of tokens in a chunk, and of chunks in a chunk of chunks."""

LARGEST_DOUBLING = 64
"""Number of chunks up to which a scan works by doubling."""

MAX_STATES = 256


def parallel_scan_function(
    signature: ScanSignature, *, length: int, channels: int, states: int, name: str
) -> onnx.FunctionProto:
    """Write the op in elementwise operators, slices and sums, for one signature and one shape.

    Parameters
    ----------
    signature
        Optional inputs, and one direction.
    length, channels, states
        Sizes L, D and N; the batch is free.
    name
        Name of the function, in the op's domain.

    Raises
    ------
    ValueError
        The signature leaves the direction open, or a size is out of range.
    """
    if signature.reverse is None:
        raise ValueError("the parallel body serves one direction; the signature leaves it open")
    if min(length, channels, states) < 1 or states > MAX_STATES:
        raise ValueError(
            f"a scan of {length} tokens, {channels} channels and {states} states; expected at "
            f"least 1 of each and at most {MAX_STATES} states"
        )
    body = _Body(length, channels, states, reverse=signature.reverse)
    return function_around(body.nodes(), signature, name=name)


class _Body:
    """Nodes of one body. States are (batch, chunks, 1, N, D); steps and inputs broadcast to it."""

    def __init__(self, length: int, channels: int, states: int, *, reverse: bool):
        self._length, self._channels, self._states = length, channels, states
        self._reverse = reverse
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[tuple[int, ...], str] = {}

    def nodes(self) -> list[onnx.NodeProto]:
        """Return nodes that make ``scanned`` from ``step``, ``drive``, ``b32``, ``c32``, ``A``."""
        size = min(CHUNK, self._length)
        chunks = -(-self._length // size)
        self._rates = self._add("Transpose", "A", perm=[1, 0])
        steps, drives = (self._tokens(name, size, 1, self._channels) for name in ("step", "drive"))
        b, c = (self._tokens(name, size, self._states, 1) for name in ("b32", "c32"))

        def entering(token: int, decay: str | None) -> str:
            # Multiplied in this order, no product is shared with the second pass, for which a
            # compiler would keep the products of all tokens in memory.
            drive = drives[token]
            return self._mul(drive if decay is None else self._mul(decay, drive), b[token])

        start = None
        if chunks > 1:
            start = self._starts(*self._ends(steps, entering), chunks)
        y = self._join(self._outputs(start, steps, drives, b, c))
        y = self._reshape(y, chunks * size, self._channels)
        y = self._pad(y, rank=3, after=self._length - chunks * size)
        self._nodes.append(helper.make_node("Identity", [y], ["scanned"]))
        return self._nodes

    def _tokens(self, name: str, size: int, states: int, channels: int) -> list[str]:
        """Return tokens 0, 1 ... of every chunk.

        (B, L, width) becomes (B, chunks, 1, N or 1, D or 1) each. Zeros fill the last chunk: a step
        and an input of zero leave a state unchanged.
        """
        chunks = -(-self._length // size)
        padded = self._pad(name, rank=3, after=chunks * size - self._length)
        return self._split(self._reshape(padded, chunks, size, states, channels), size)

    def _ends(
        self, steps: Sequence[str], entering: Callable[[int, str | None], str]
    ) -> tuple[str, str]:
        """Return each chunk's final state if it starts from zero, and the sum of its steps.

        ``entering(token, decay)`` is a token's addition to the state, decayed if asked for.
        """
        last, *earlier = reversed(self._order(len(steps)))
        state, since = entering(last, None), steps[last]
        for token in earlier:
            state = self._sum(state, entering(token, self._decay(since)))
            since = self._sum(since, steps[token])
        return state, since

    def _starts(self, ends: str, steps: str, chunks: int) -> str:
        """Return the chunks' initial states, given each one's addition and sum of steps."""
        if chunks <= LARGEST_DOUBLING:
            return self._shift(self._doubled(ends, steps, chunks), 1)
        groups = -(-chunks // CHUNK)
        surplus = groups * CHUNK - chunks

        def members(name: str, states: int) -> list[str]:
            padded = self._pad(name, after=surplus)
            return self._split(self._reshape(padded, groups, CHUNK, states, self._channels), CHUNK)

        added, decaying = members(ends, self._states), members(steps, 1)

        def entering(member: int, decay: str | None) -> str:
            return added[member] if decay is None else self._mul(decay, added[member])

        starts = [self._starts(*self._ends(decaying, entering), groups)]
        for member in self._order(CHUNK)[:-1]:
            decayed = self._mul(self._decay(decaying[member]), starts[-1])
            starts.append(self._sum(decayed, added[member]))
        joined = self._join([starts[position] for position in self._order(CHUNK)])
        joined = self._reshape(joined, groups * CHUNK, 1, self._states, self._channels)
        return self._pad(joined, after=-surplus)

    def _doubled(self, state: str, steps: str, chunks: int) -> str:
        """Scan the chunks inclusively; each round takes in twice as many before it."""
        distance = 1
        while distance < chunks:
            before = self._mul(self._decay(steps), self._shift(state, distance))
            state = self._sum(state, before)
            steps = self._sum(steps, self._shift(steps, distance))
            distance *= 2
        return state

    def _outputs(
        self,
        state: str | None,
        steps: Sequence[str],
        drives: Sequence[str],
        b: Sequence[str],
        c: Sequence[str],
    ) -> list[str]:
        """Return the sum over states of C h for each token, (B, chunks, 1, D)."""
        outputs = [""] * len(steps)
        for token in self._order(len(steps)):
            entering = self._mul(drives[token], b[token])
            if state is None:
                state = entering
            else:
                state = self._sum(self._mul(self._decay(steps[token]), state), entering)
            read = self._mul(state, c[token])
            outputs[token] = self._add("ReduceSum", read, self._ints(3), keepdims=0)
        return outputs

    def _order(self, count: int) -> list[int]:
        """Return the positions within a chunk in the direction of the scan."""
        return list(range(count))[:: -1 if self._reverse else 1]

    def _decay(self, steps: str) -> str:
        return self._add("Exp", self._mul(steps, self._rates))

    def _shift(self, name: str, distance: int) -> str:
        """Move every chunk's value `distance` chunks on; zeros come in."""
        distance = -distance if self._reverse else distance
        return self._pad(name, before=distance, after=-distance)

    def _pad(self, name: str, *, before: int = 0, after: int = 0, rank: int = 5) -> str:
        """Add zeros before and after the tokens or chunks (axis 1); negative counts remove."""
        if not before and not after:
            return name
        others = [0] * (rank - 2)
        return self._add("Pad", name, self._ints(0, before, *others, 0, after, *others))

    def _reshape(self, name: str, *shape: int) -> str:
        """Reshape `name` to the given shape behind the batch."""
        return self._add("Reshape", name, self._ints(0, *shape))

    def _split(self, name: str, count: int) -> list[str]:
        if count == 1:
            return [name]
        parts = [f"{name}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node("Split", [name], parts, axis=2, num_outputs=count))
        return parts

    def _join(self, names: Sequence[str]) -> str:
        return names[0] if len(names) == 1 else self._add("Concat", *names, axis=2)

    def _mul(self, a: str, b: str) -> str:
        return self._add("Mul", a, b)

    def _sum(self, a: str, b: str) -> str:
        return self._add("Add", a, b)

    def _ints(self, *values: int) -> str:
        if values not in self._constants:
            self._constants[values] = self._add("Constant", value_ints=list(values))
        return self._constants[values]

    def _add(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        output = f"scan{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], **attributes))
        return output
