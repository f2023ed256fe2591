"""The functions of the system as Python has them, taken before anything is put in their place."""

from __future__ import annotations

import os

open_file = os.open
write = os.write
pwrite = os.pwrite
close = os.close
replace = os.replace
makedirs = os.makedirs
listdir = os.listdir
exit_now = os._exit
