"""One target under libFuzzer: `python -m tests.fuzz.child TARGET [CORPUS] [-option=value …]`.

`python -m tests.fuzz` starts it with seeds and limits.  Ends with libFuzzer's exit status.
"""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["agent", "fsdriver"]):
    from tests.fuzz.registry import target


def main() -> None:
    """Run the target named first; what follows is libFuzzer's."""
    chosen = target(sys.argv[1])
    logging.disable(logging.CRITICAL)  # what is damaged is logged a thousand times a second
    atheris.Setup([sys.argv[0], *sys.argv[2:]], chosen)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
