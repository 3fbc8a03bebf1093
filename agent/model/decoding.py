"""What msgspec raises for bytes that are not what they should be: more than its own errors.

A field that a decoder skips may nest deeper than the interpreter's stack (RecursionError); a string
may not be UTF-8 (UnicodeDecodeError).  Lengths that lie cost nothing: they are checked first.
"""

from typing import Final

import msgspec

UNDECODABLE: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
