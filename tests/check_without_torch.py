"""Import every module of the runtime where PyTorch is not installed.

Not a pytest module: it runs in an environment of its own.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

EXPORT_ONLY = ("torch", "onnx", "onnxscript")


def main() -> None:
    present = [name for name in EXPORT_ONLY if importlib.util.find_spec(name)]
    if present:
        raise SystemExit(f"this check needs an environment without {', '.join(present)}")
    import segmaformer.runtime

    modules = list(pkgutil.walk_packages(segmaformer.runtime.__path__, "segmaformer.runtime."))
    for module in modules:
        importlib.import_module(module.name)
    print(f"segmaformer and {len(modules)} modules of segmaformer.runtime import without PyTorch")


if __name__ == "__main__":
    main()
