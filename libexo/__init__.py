"""libexo: the library OS that programs link.

import libexo
from libexo import ipc, vm

env = libexo.attach()
"""

# ruff: noqa: E402 - the names first
from libexo.names import claim, give_way

claim()

from libexo.attach import attach, run_directory
from libexo.environment import Environment
from libexo.extent import Extent

give_way()

__all__ = ["Environment", "Extent", "attach", "run_directory"]
