"""Python runs this first in every process that has this folder on its path.

``CHAOS_BROKEN`` names an engine of chaos.broken; ``CHAOS_DECODER=evil`` makes decoders crash or
hang at images whose bytes say so.
"""

import os

if name := os.environ.get("CHAOS_BROKEN"):
    from chaos.broken import BROKEN

    BROKEN[name]()

if os.environ.get("CHAOS_DECODER") == "evil":
    from chaos.evil import bewitch

    bewitch()
