"""Python runs this first in every process that has this folder on its path; see chaos.broken."""

import os

if name := os.environ.get("CHAOS_BROKEN"):
    from chaos.broken import BROKEN

    BROKEN[name]()
