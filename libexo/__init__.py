"""libexo: the library OS that programs link.

import libexo
from libexo import ipc, vm

env = libexo.attach()
"""

from libexo.attach import attach, run_directory
from libexo.environment import Environment
from libexo.extent import Extent

__all__ = ["Environment", "Extent", "attach", "run_directory"]
