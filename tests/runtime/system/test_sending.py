from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import subprocess
import sys
from pathlib import Path

import pytest

from segmaformer.runtime.system.sending import send

FAIL_TO_SEND = """
import gc, multiprocessing
from segmaformer.runtime.system.sending import send

def fail():
    near, far = multiprocessing.Pipe()
    far.close()
    try:
        send(near, {"case": 1})
    except OSError as error:
        kept = error  # whose traceback leads back to it

fail()
gc.collect()
"""


@pytest.mark.parametrize("message", [None, {"case": Path("scan.nii.gz")}, b"\0" * 100_000])
def test_the_other_end_receives_the_message(message: object) -> None:
    near, far = multiprocessing.Pipe()
    with multiprocessing.pool.ThreadPool(1) as pool:
        sent = pool.apply_async(send, (near, message))
        assert far.recv() == message
        sent.get()


def test_a_failed_send_leaves_a_process_that_lives(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FAIL_TO_SEND], cwd=tmp_path, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
