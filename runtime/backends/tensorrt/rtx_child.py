"""Process that builds a TensorRT-RTX engine in its working directory.

Started by :mod:`segmaformer.runtime.backends.tensorrt.rtx_build` with the target and the batch.
Writes one JSON object a line to stdout: progress, and at last the result or the reason for its
failure. Output of native code goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

from segmaformer.runtime.backends.tensorrt.build import build_engine
from segmaformer.runtime.backends.tensorrt.messages import Messages
from segmaformer.runtime.backends.tensorrt.rtx_build import ENGINE_FILE, LOG_FILE, NETWORK_FILE
from segmaformer.runtime.errors import BackendError
from segmaformer.runtime.system.memory import peak_mib


def main(target: str, batch: int) -> int:
    """Build an engine; return 0 if it was written."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import tensorrt_rtx

    def aim(config: Any) -> None:
        config.num_compute_capabilities = 1
        capability = getattr(tensorrt_rtx.ComputeCapability, target.upper())
        config.set_compute_capability(capability, 0)

    messages = Messages(tensorrt_rtx)
    try:
        built = build_engine(
            tensorrt_rtx,
            Path(NETWORK_FILE).read_bytes(),
            messages,
            batch=batch,
            progress=lambda done, steps: _say(answers, done=done, steps=steps),
            configure=aim,
        )
    except BackendError as error:
        _say(answers, error=str(error))
        return 1
    finally:
        Path(LOG_FILE).write_text(messages.text(), encoding="utf-8")
    Path(ENGINE_FILE).write_bytes(built.engine)
    facts = {"version": tensorrt_rtx.__version__, "peak_mib": peak_mib() or 0.0}
    _say(answers, seconds=built.seconds, **facts)
    return 0


def _say(answers: TextIO, **facts: object) -> None:
    answers.write(json.dumps(facts) + "\n")
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
